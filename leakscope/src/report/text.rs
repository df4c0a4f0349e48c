//! A document as plain text: 80 columns for a file, or as wide as asked for.

use textwrap::{Options, WordSplitter};
use unicode_width::UnicodeWidthStr;

use super::chart::Chart;
use super::document::{Block, Document};
use super::printable::Line;
use super::table::Style;

/// The narrowest text that is still laid out; below it lines grow longer than the screen.
const NARROWEST: usize = 20;

/// How many points of a chart stand for it in text.
const CHART_POINTS: usize = 5;

/// Writes `document` as text. Only lines to be copied ([`Block::Code`]) may be longer than the width.
pub fn to_text(document: &Document, style: Style) -> String {
    let style = Style { width: style.width.max(NARROWEST), ..style };
    let mut out = String::new();
    heading(&mut out, &document.title.plain(), '=', style);
    for block in &document.preamble {
        write_block(&mut out, block, style);
    }
    for section in &document.sections {
        out.push('\n');
        heading(&mut out, section.heading, '-', style);
        for (i, block) in section.blocks.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            write_block(&mut out, block, style);
        }
    }
    out
}

fn heading(out: &mut String, text: &str, underline: char, style: Style) {
    let lines = textwrap::wrap(text, style.width);
    let width = lines.iter().map(|line| line.width()).max().unwrap_or(0);
    for line in lines {
        out.push_str(&line);
        out.push('\n');
    }
    out.extend(std::iter::repeat_n(underline, width));
    out.push('\n');
}

fn write_block(out: &mut String, block: &Block, style: Style) {
    match block {
        Block::Paragraph(line) => wrapped(out, line, "", "", style),
        Block::Subheading(line) => wrapped(out, line, "* ", "  ", style),
        Block::Bullets(items) => {
            for item in items {
                wrapped(out, item, "- ", "  ", style);
            }
        }
        Block::Facts(facts) => write_facts(out, facts, style),
        Block::Table(table) => out.push_str(&table.to_text(style)),
        Block::Code(lines) => {
            for line in lines {
                out.push_str(&format!("    {line}\n"));
            }
        }
        Block::Chart(chart) => {
            wrapped(out, &in_words(chart), "", "", style);
            for line in chart.in_words() {
                wrapped(out, &line, "- ", "  ", style);
            }
        }
    }
}

fn wrapped(out: &mut String, line: &Line, first: &str, rest: &str, style: Style) {
    let options = Options::new(style.width).initial_indent(first).subsequent_indent(rest);
    out.push_str(&fill(&line.plain(), options));
    out.push('\n');
}

fn write_facts(out: &mut String, facts: &[(&'static str, Line)], style: Style) {
    let column = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    for (name, value) in facts {
        // Names in a column of their own need room for the values.
        if column + NARROWEST <= style.width {
            wrapped(out, value, &format!("{name:column$}"), &" ".repeat(column), style);
        } else {
            wrapped(out, &Line::new().text(format!("{name}: ")).then(value.clone()), "", "  ", style);
        }
    }
}

/// Wraps at blanks only, so that `--protect-pidfile` stays in one piece, and no figure is parted from its unit.
pub(super) fn fill(text: &str, options: Options<'_>) -> String {
    let glued = glue_units(text);
    textwrap::fill(&glued, options.word_splitter(WordSplitter::NoHyphenation)).replace(GLUE, " ")
}

/// A blank at which no line is broken.
const GLUE: &str = "\u{a0}";

const UNITS: [&str; 18] = [
    "B", "KB", "MB", "GB", "TB", "PB", "B/s", "KB/s", "MB/s", "GB/s", "TB/s", "MiB", "%", "ms", "s", "min",
    "h", "d",
];

fn glue_units(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut after_figure = false;
    for (i, word) in text.split(' ').enumerate() {
        let unit = word.trim_end_matches(|c: char| ".,;:)".contains(c));
        if i > 0 {
            out.push_str(if after_figure && UNITS.contains(&unit) { GLUE } else { " " });
        }
        out.push_str(word);
        after_figure = word.ends_with(|c: char| c.is_ascii_digit());
    }
    out
}

/// A curve in text: a few of its points.
fn in_words(chart: &Chart) -> Line {
    let points = chart.thinned(CHART_POINTS);
    let clock = chart.clock();
    let words: Vec<String> =
        points.iter().map(|(at, bytes)| format!("{bytes} at {}", clock.show(*at))).collect();
    chart.caption.clone().text(": ").text(words.join(", ")).text(".")
}
