//! A short list that nearly always has one element, which then needs no allocation.

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(crate) fn push(&mut self, last: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(last),
            Self::One(first) => Self::Many(vec![first, last]),
            Self::Many(mut many) => {
                many.push(last);
                Self::Many(many)
            }
        };
    }
}

impl<T: Ord> Few<T> {
    /// Puts `one` in its place of an ascending list, unless it is there.
    pub(crate) fn insert(&mut self, one: T) {
        let Err(at) = self.as_slice().binary_search(&one) else { return };
        self.push(one);
        if let Self::Many(many) = self
            && let Some(behind) = many.get_mut(at..)
        {
            behind.rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_ascending_and_there_once() {
        let mut few = Few::default();
        assert!(few.as_slice().is_empty());
        for (one, all) in [(5, vec![5]), (5, vec![5]), (3, vec![3, 5]), (7, vec![3, 5, 7]), (4, vec![3, 4, 5, 7])] {
            few.insert(one);
            assert_eq!(few.as_slice(), all);
        }
        few.push(1);
        assert_eq!(few.as_slice(), [3, 4, 5, 7, 1]);
    }
}
