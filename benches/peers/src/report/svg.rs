//! A writer of SVG: what the charts need of it.

use std::fmt::{Display, Write};

/// A drawing on a ground of its own, so that it reads alike on light and dark pages.
pub struct Svg {
    text: String,
}

#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    pub size: f64,
    pub fill: &'static str,
    pub bold: bool,
    pub anchor: Anchor,
}

impl Svg {
    /// `title` is what a reader of screens says.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self { text: String::new() };
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-family=\"sans-serif\">\n<title>{}</title>\n",
            escaped(title)
        ));
        svg.push(format_args!(
            "<rect x=\"0.5\" y=\"0.5\" width=\"{:.1}\" height=\"{:.1}\" rx=\"8\" fill=\"#ffffff\" \
             stroke=\"#d0d7de\"/>\n",
            width - 1.0,
            height - 1.0
        ));
        svg
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"/>\n",
            escaped(fill)
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        self.push(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{}\" stroke-width=\"{width}\"/>\n",
            from.0,
            from.1,
            to.0,
            to.1,
            escaped(stroke)
        ));
    }

    /// `y` is the line that the text stands on.
    pub fn text(&mut self, x: f64, y: f64, set: Type, text: &str) {
        let anchor = match set.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if set.bold { " font-weight=\"bold\"" } else { "" };
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{anchor}\"{weight}>{}</text>\n",
            set.size,
            escaped(set.fill),
            escaped(text)
        ));
    }

    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn push(&mut self, text: impl Display) {
        // A String takes everything.
        let _ = write!(self.text, "{text}");
    }
}

impl Type {
    /// At most how wide a text becomes; fonts differ, and this is for wide ones.
    pub fn width(self, text: &str) -> f64 {
        let wide = if self.bold { 0.68 } else { 0.62 };
        text.chars().count() as f64 * self.size * wide
    }
}

/// Fit for text and for attributes in double quotes. What XML has no room for is left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Every tag is closed in its turn, attributes are quoted, and no bare `<` or `&` is left.
    pub fn well_formed(svg: &str) -> Result<(), String> {
        let mut open: Vec<&str> = Vec::new();
        let mut roots = 0;
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            content(&rest[..start])?;
            if open.is_empty() && !rest[..start].trim().is_empty() {
                return Err(format!("text outside of the root: {}", &rest[..start]));
            }
            let end = rest.find('>').ok_or("a tag without an end")?;
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                let last = open.pop();
                if last != Some(name) {
                    return Err(format!("{name} closes {last:?}"));
                }
                continue;
            }
            roots += usize::from(open.is_empty());
            let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            attributes_of(attributes)?;
            if !empty {
                open.push(name);
            }
        }
        content(rest)?;
        match (open.is_empty(), roots) {
            (true, 1) => Ok(()),
            _ => Err(format!("{open:?} open at the end, {roots} roots")),
        }
    }

    fn attributes_of(attributes: &str) -> Result<(), String> {
        let mut rest = attributes.trim();
        while !rest.is_empty() {
            let (_, after) = rest.split_once("=\"").ok_or_else(|| format!("no value: {rest}"))?;
            let (value, after) = after.split_once('"').ok_or_else(|| format!("no closing quote: {rest}"))?;
            content(value)?;
            rest = after.trim_start();
        }
        Ok(())
    }

    fn content(text: &str) -> Result<(), String> {
        for (at, _) in text.match_indices('&') {
            if !["&amp;", "&lt;", "&gt;", "&quot;"].iter().any(|entity| text[at..].starts_with(entity)) {
                return Err(format!("a bare & in {text}"));
            }
        }
        if text.contains('<') { Err(format!("a bare < in {text}")) } else { Ok(()) }
    }

    #[test]
    fn the_check_finds_what_is_not_well_formed() {
        for wrong in
            ["<a>", "<a></b>", "<a><b></a></b>", "<a>&</a>", "<a b=c></a>", "<a/><a/>", "x<a/>", "<a b=\"c></a>"]
        {
            assert!(well_formed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(well_formed("<a b=\"c\"><d/>&amp; x</a>\n"), Ok(()));
    }

    #[test]
    fn text_cannot_break_out() {
        let mut svg = Svg::new(100.0, 50.0, "a < b & \"c\"\u{1}");
        let set = Type { size: 12.0, fill: "#000", bold: true, anchor: Anchor::End };
        svg.text(1.0, 2.0, set, "</text><script>&amp;");
        let svg = svg.finish();
        assert_eq!(well_formed(&svg), Ok(()));
        assert!(!svg.contains("<script>") && !svg.contains('\u{1}'));
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;&amp;amp;"));
        assert!(svg.contains("<title>a &lt; b &amp; &quot;c&quot;</title>"));
    }
}
