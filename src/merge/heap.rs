//! A binary heap of source numbers. What orders them lies in the sources, so every call brings its comparison along.

#[derive(Debug, Default)]
pub(super) struct SourceHeap {
    items: Vec<usize>,
}

impl SourceHeap {
    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    pub(super) fn top(&self) -> Option<usize> {
        self.items.first().copied()
    }

    pub(super) fn push(&mut self, item: usize, before: impl Fn(usize, usize) -> bool) {
        self.items.push(item);
        let mut at = self.items.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.swap_if(at, parent, &before) {
                break;
            }
            at = parent;
        }
    }

    pub(super) fn pop(&mut self, before: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let last = self.items.pop()?;
        Some(self.replace_top(last, before).unwrap_or(last))
    }

    /// Puts `item` in the place of the top, which it gives; `None`, and nothing done, if the heap is empty.
    pub(super) fn replace_top(&mut self, item: usize, before: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let top = std::mem::replace(self.items.first_mut()?, item);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = match (self.items.get(left), self.items.get(right)) {
                (Some(&l), Some(&r)) if before(r, l) => right,
                (Some(_), _) => left,
                (None, _) => return Some(top),
            };
            if !self.swap_if(child, at, &before) {
                return Some(top);
            }
            at = child;
        }
    }

    /// Swaps the items at `lower` and `upper` if the one at `lower` comes first.
    fn swap_if(&mut self, lower: usize, upper: usize, before: &impl Fn(usize, usize) -> bool) -> bool {
        let swap = match (self.items.get(lower), self.items.get(upper)) {
            (Some(&l), Some(&u)) => before(l, u),
            _ => false,
        };
        if swap {
            self.items.swap(lower, upper);
        }
        swap
    }
}

#[cfg(test)]
mod tests {
    use super::SourceHeap;

    #[test]
    fn items_come_out_in_order_whatever_the_order_they_went_in() {
        for seed in 0..200usize {
            let rank = |item: usize| (item * 7919 + seed * 104_729) % 31;
            let before = |a: usize, b: usize| (rank(a), a) < (rank(b), b);
            let mut heap = SourceHeap::default();
            let mut expected: Vec<usize> = (0..seed % 20).collect();
            for &item in &expected {
                heap.push(item, before);
            }
            if heap.top().is_some() {
                let top = heap.replace_top(77, before).unwrap();
                expected.retain(|&item| item != top);
                expected.push(77);
            }
            expected.sort_by_key(|&item| (rank(item), item));
            let popped: Vec<usize> = std::iter::from_fn(|| heap.pop(before)).collect();
            assert_eq!(popped, expected, "seed {seed}");
        }
    }
}
