//! Bars of ratios to RocksDB, one group a workload, on a logarithmic scale around 1.
//!
//! ```text
//! title, what is shown, legend
//!              0.2    0.5     1      2      5
//! workload             |      |██████████|──  2.61     a bar to the right of 1 is faster than RocksDB,
//!                      | 0.90 |               0.90     one to the left slower; the thin line is the spread
//! ```

use super::figures::{KEY_BYTES, PREFIX_BYTES, Spread};
use super::format;
use super::names;
use super::svg::{Anchor, Svg, Type};
use super::targets::{Table, Target};
use super::verdicts::{Group, Line, Outcome};
use crate::engine::Kind;
use crate::record::Setup;

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 20.0;
/// Where the plot begins and ends; numbers at the bars' ends may reach beyond by [`NUMBER`].
const LEFT: f64 = 240.0;
const RIGHT: f64 = WIDTH - MARGIN - NUMBER;
const NUMBER: f64 = 42.0;
const BAR: f64 = 11.0;
const STEP: f64 = 14.0;
const BETWEEN_GROUPS: f64 = 14.0;

const INK: &str = "#1f2328";
const QUIET: &str = "#59636e";
const GRID: &str = "#e4e8ec";

const TITLE: Type = Type { size: 17.0, fill: INK, bold: true, anchor: Anchor::Start };
const NOTE: Type = Type { size: 11.5, fill: QUIET, bold: false, anchor: Anchor::Start };
const LABEL: Type = Type { size: 12.5, fill: INK, bold: false, anchor: Anchor::Start };
const LEGEND: Type = Type { size: 12.0, fill: INK, bold: false, anchor: Anchor::Start };
const TICK: Type = Type { size: 11.0, fill: QUIET, bold: false, anchor: Anchor::Middle };
const VALUE: Type = Type { size: 10.5, fill: INK, bold: false, anchor: Anchor::Start };

/// Nothing if no engine has a ratio in this table.
pub fn draw(group: &Group, table: Table, setup: &Setup) -> Option<String> {
    // Where lower is better, a longer bar would say the contrary of its neighbours.
    let lines: Vec<&Line> = group.table(table).filter(|line| !line.measure.lower_is_better()).collect();
    let ratio = |line: &&Line, engine: Kind| matches!(line.outcome(engine), Outcome::Ratio(_));
    let engines: Vec<Kind> =
        Kind::ALL.into_iter().filter(|&engine| lines.iter().any(|line| ratio(line, engine))).collect();
    let scale = Scale::of(&lines, &engines)?;

    let legend = legend(&engines, table);
    let top = 78.0 + legend.rows as f64 * 20.0 + 22.0;
    let heights: Vec<f64> = lines.iter().map(|line| height(line, engines.len())).collect();
    let bottom = top + heights.iter().map(|height| height + BETWEEN_GROUPS).sum::<f64>();
    let title = format!("{}: ratio to RocksDB", table.title());
    let mut svg = Svg::new(WIDTH, bottom + 30.0, &title);
    head(&mut svg, &title, group, setup);
    legend.draw(&mut svg, 78.0);
    scale.draw(&mut svg, top, bottom);
    let mut y = top + BETWEEN_GROUPS / 2.0;
    for (line, height) in lines.iter().zip(heights) {
        workload(&mut svg, line, &engines, &scale, y, height);
        y += height + BETWEEN_GROUPS;
    }
    // Over the bars, which begin at it.
    let one = scale.x(1.0);
    svg.line((one, top), (one, bottom), INK, 1.2);
    Some(svg.finish())
}

fn head(svg: &mut Svg, title: &str, group: &Group, setup: &Setup) {
    svg.text(MARGIN, 32.0, TITLE, title);
    let keys = if group.prefix {
        format!("keys of {} bytes, {PREFIX_BYTES} of them a common prefix", KEY_BYTES + PREFIX_BYTES)
    } else {
        format!("keys of {KEY_BYTES} bytes")
    };
    let rounds = match group.rounds {
        1 => "One round.".to_owned(),
        rounds => format!("Median of {rounds} rounds; thin lines: least to greatest."),
    };
    let what = format!("Right of the line at 1 is faster than RocksDB, left of it slower. {rounds} Logarithmic scale.");
    svg.text(MARGIN, 51.0, NOTE, &what);
    let where_ = format!("{}; {keys}, values of {} bytes", setup.machine, setup.value_bytes);
    svg.text(MARGIN, 67.0, NOTE, &shortened(&where_, NOTE, WIDTH - 2.0 * MARGIN));
}

fn workload(svg: &mut Svg, line: &Line, engines: &[Kind], scale: &Scale, y: f64, height: f64) {
    let words = wrapped(&line.label, LABEL, LEFT - NUMBER - MARGIN);
    let first = y + (height - words.len() as f64 * 15.0) / 2.0 + 11.5;
    for (at, text) in words.iter().enumerate() {
        svg.text(MARGIN, first + at as f64 * 15.0, LABEL, text);
    }
    let mut y = y + (height - engines.len() as f64 * STEP) / 2.0;
    for &engine in engines {
        let mark = match line.target {
            Some(Target::RocksDb(ratio)) if engine == Kind::Strandline => Some(scale.x(ratio)),
            _ => None,
        };
        match line.outcome(engine) {
            Outcome::Ratio(ratio) => bar(svg, ratio, engine, scale, y, mark),
            other => {
                let text = absent(other);
                svg.text(scale.x(1.0) + 5.0, y + BAR - 2.0, Type { fill: QUIET, ..VALUE }, text);
            }
        }
        if let Some(x) = mark {
            svg.line((x, y - 2.0), (x, y + BAR + 2.0), INK, 2.0);
        }
        y += STEP;
    }
}

fn absent(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ratio(_) | Outcome::NoBase => "nothing of RocksDB's to compare",
        Outcome::Base => "1 (this mode is the better one)",
        Outcome::Failed => "failed",
        Outcome::NotOffered => "not offered",
        Outcome::NotRun => "not run",
    }
}

fn bar(svg: &mut Svg, ratio: Spread, engine: Kind, scale: &Scale, y: f64, mark: Option<f64>) {
    let (one, end) = (scale.x(1.0), scale.x(ratio.median));
    svg.rect(one.min(end), y, (end - one).abs().max(0.5), BAR, names::colour(engine));
    let (mut least, mut greatest) = (end, end);
    if ratio.rounds > 1 {
        (least, greatest) = (scale.x(ratio.least), scale.x(ratio.greatest));
        let middle = y + BAR / 2.0;
        svg.line((least, middle), (greatest, middle), INK, 1.0);
    }
    let text = format::ratio(ratio.median);
    let width = VALUE.width(&text);
    let set = Type { bold: engine == Kind::Strandline, ..VALUE };
    if ratio.median >= 1.0 {
        let mut x = greatest.max(end) + 4.0;
        // Beyond the mark, if they would meet.
        if mark.is_some_and(|mark| mark > x - 4.0 && mark < x + width + 4.0) {
            x = mark.unwrap_or(x) + 5.0;
        }
        svg.text(x, y + BAR - 1.8, set, &text);
    } else {
        svg.text(least.min(end) - 4.0, y + BAR - 1.8, Type { anchor: Anchor::End, ..set }, &text);
    }
}

/// Room for all bars, and for the label beside them.
fn height(line: &Line, engines: usize) -> f64 {
    let words = wrapped(&line.label, LABEL, LEFT - NUMBER - MARGIN).len();
    (engines as f64 * STEP).max(words as f64 * 15.0)
}

/// From ratios to the plot's width.
struct Scale {
    least: f64,
    greatest: f64,
}

impl Scale {
    fn of(lines: &[&Line], engines: &[Kind]) -> Option<Self> {
        let mut all = Vec::new();
        for line in lines {
            all.extend(engines.iter().filter_map(|&engine| line.ratio(engine)).flat_map(|s| [s.least, s.greatest]));
            if let (Some(Target::RocksDb(ratio)), false) = (line.target, all.is_empty()) {
                all.push(ratio);
            }
        }
        let least = all.iter().copied().filter(|ratio| *ratio > 0.0).reduce(f64::min)?;
        let greatest = all.iter().copied().reduce(f64::max)?;
        Some(Self {
            least: steps().filter(|&step| step <= least.min(0.5)).last().unwrap_or(least),
            greatest: steps().find(|&step| step >= greatest.max(2.0)).unwrap_or(greatest),
        })
    }

    fn x(&self, ratio: f64) -> f64 {
        let part = (ratio.max(self.least) / self.least).ln() / (self.greatest / self.least).ln();
        LEFT + part * (RIGHT - LEFT)
    }

    fn draw(&self, svg: &mut Svg, top: f64, bottom: f64) {
        let wide = self.greatest / self.least > 500.0;
        for step in steps().filter(|step| (self.least..=self.greatest).contains(step)) {
            let x = self.x(step);
            svg.line((x, top), (x, bottom), GRID, 1.0);
            let text = step.to_string();
            // A wide scale has room for powers of ten only.
            if !wide || step.log10().fract() == 0.0 {
                svg.text(x, top - 6.0, TICK, &text);
                svg.text(x, bottom + 16.0, TICK, &text);
            }
        }
    }
}

/// 0.001, 0.002, 0.005, 0.01, ... 5000.
fn steps() -> impl Iterator<Item = f64> {
    const TENS: [f64; 7] = [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
    // By tenths, as 0.001 * 5.0 is not quite 0.005.
    TENS.into_iter().flat_map(|ten| [1.0, 2.0, 5.0].map(|step| if ten < 1.0 { step / (1.0 / ten) } else { step * ten }))
}

struct Legend {
    /// Colour, text, place.
    items: Vec<(&'static str, &'static str, f64, usize)>,
    rows: usize,
}

const TARGET: &str = "strandline's target";

fn legend(engines: &[Kind], table: Table) -> Legend {
    let mut items = Vec::new();
    let (mut x, mut row) = (MARGIN, 0);
    let names = engines.iter().map(|&engine| (names::colour(engine), names::engine(engine, table)));
    for (colour, text) in names.chain([(INK, TARGET)]) {
        let width = 18.0 + LEGEND.width(text) + 14.0;
        if x + width > WIDTH - MARGIN {
            (x, row) = (MARGIN, row + 1);
        }
        items.push((colour, text, x, row));
        x += width;
    }
    Legend { items, rows: row + 1 }
}

impl Legend {
    fn draw(&self, svg: &mut Svg, top: f64) {
        for &(colour, text, x, row) in &self.items {
            let y = top + row as f64 * 20.0;
            if text == TARGET {
                svg.line((x + 6.0, y), (x + 6.0, y + 14.0), colour, 2.0);
            } else {
                svg.rect(x, y + 1.0, 12.0, 12.0, colour);
            }
            svg.text(x + 18.0, y + 11.5, LEGEND, text);
        }
    }
}

/// Lines of whole words (spaces that do not break are kept) that are no wider than `width`, unless one word is.
fn wrapped(text: &str, set: Type, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if set.width(line) + set.width(word) + set.size / 2.0 <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(shortened(word, set, width)),
        }
    }
    lines
}

fn shortened(text: &str, set: Type, width: f64) -> String {
    if set.width(text) <= width {
        return text.to_owned();
    }
    let fits = text.char_indices().take_while(|(end, _)| set.width(&text[..*end]) + set.size <= width);
    let end = fits.last().map_or(0, |(end, _)| end);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_numbers_that_they_show() {
        let shown: Vec<String> = steps().map(|step| step.to_string()).collect();
        assert_eq!(shown[..7], ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]);
        assert_eq!(shown.last().unwrap(), "5000");
    }

    #[test]
    fn words_are_kept_whole_and_lines_short() {
        let lines = wrapped("scan 100 keys as of a random time", LABEL, 178.0);
        assert_eq!(lines.join(" "), "scan 100 keys as of a random time");
        assert!(lines.len() > 1 && lines.iter().all(|line| LABEL.width(line) <= 178.0));
        let cut = shortened("ääääääääääääääääääää", LABEL, 80.0);
        assert!(cut.ends_with('…') && LABEL.width(&cut) <= 80.0 + LABEL.size);
        assert_eq!(shortened("short", LABEL, 80.0), "short");
    }

    #[test]
    fn the_scale_puts_its_ends_at_the_plots_ends() {
        let scale = Scale { least: 0.1, greatest: 10.0 };
        assert!((scale.x(0.1) - LEFT).abs() < 1e-9 && (scale.x(10.0) - RIGHT).abs() < 1e-9);
        assert!((scale.x(1.0) - (LEFT + RIGHT) / 2.0).abs() < 1e-9);
    }
}
