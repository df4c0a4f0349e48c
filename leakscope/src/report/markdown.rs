//! A document as Markdown (GitHub's flavour).
//!
//! Names and command lines are code spans whose fence is longer than any in them; words are escaped, so that a process
//! name can neither open a link nor end a table.

use super::chart::{Chart, at_or_before, bytes};
use super::document::{Block, Document};
use super::printable::{Line, Span};
use super::table::Table;

/// How many points of a chart stand for it.
const CHART_POINTS: usize = 9;

/// How many look-alikes have a column beside it.
const CHART_BESIDE: usize = 2;

/// Writes `document` as Markdown.
pub fn to_markdown(document: &Document) -> String {
    let mut out = format!("# {}\n", inline(&document.title));
    for block in &document.preamble {
        write_block(&mut out, block);
    }
    for section in &document.sections {
        out.push_str(&format!("\n## {}\n", section.heading));
        for block in &section.blocks {
            write_block(&mut out, block);
        }
    }
    out
}

fn write_block(out: &mut String, block: &Block) {
    out.push('\n');
    match block {
        Block::Paragraph(line) => out.push_str(&format!("{}\n", inline(line))),
        Block::Subheading(line) => out.push_str(&format!("### {}\n", inline(line))),
        Block::Bullets(items) => {
            for item in items {
                out.push_str(&format!("- {}\n", inline(item)));
            }
        }
        Block::Facts(facts) => {
            for (name, value) in facts {
                out.push_str(&format!("- **{name}:** {}\n", inline(value)));
            }
        }
        Block::Table(table) => write_table(out, table),
        Block::Code(lines) => {
            let longest = lines.iter().map(|line| longest_run(line.as_str())).max().unwrap_or(0);
            let fence = "`".repeat(longest.max(2) + 1);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            out.push_str(&format!("{fence}\n{text}{fence}\n"));
        }
        Block::Chart(chart) => write_chart(out, chart),
    }
}

fn write_table(out: &mut String, table: &Table) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(table.columns.iter().map(|column| column.title.to_owned()).collect()));
    let rule = table.columns.iter().map(|column| if column.number { "---:" } else { "---" }.to_owned());
    out.push_str(&line(rule.collect()));
    for row in &table.rows {
        out.push_str(&line(row.iter().map(|cell| in_cell(&cell.line)).collect()));
    }
}

/// A few points of the chart with the trend and the look-alikes beside them, and the rest in sentences.
fn write_chart(out: &mut String, chart: &Chart) {
    let beside = &chart.beside[..chart.beside.len().min(CHART_BESIDE)];
    let mut head = vec!["Time (UTC)".to_owned(), "Footprint".to_owned()];
    head.extend(chart.trend.map(|_| "Fitted trend".to_owned()));
    head.extend(beside.iter().map(|other| in_cell(&other.name)));
    out.push_str(&format!(
        "{}:\n\n| {} |\n| ---{} |\n",
        inline(&chart.caption),
        head.join(" | "),
        " | ---:".repeat(head.len() - 1)
    ));
    for (at, footprint) in chart.thinned(CHART_POINTS) {
        let mut row = vec![chart.clock().show(at).to_string(), footprint.to_string()];
        row.extend(chart.trend.map(|trend| {
            let inside = (trend.from..=trend.to).contains(&at);
            if inside { bytes(trend.at(at)[1]).to_string() } else { String::new() }
        }));
        row.extend(
            beside.iter().map(|other| {
                at_or_before(&other.points, at).map_or_else(String::new, |held| held.to_string())
            }),
        );
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    let words: String = chart.in_words().iter().map(|line| format!("- {}\n", inline(line))).collect();
    if !words.is_empty() {
        out.push_str(&format!("\n{words}"));
    }
}

fn inline(line: &Line) -> String {
    let text: String = line.0.iter().map(span).collect();
    guard_start(&text)
}

fn in_cell(line: &Line) -> String {
    line.0
        .iter()
        .map(|piece| match piece {
            Span::Code(code) if code.as_str().contains('|') => entities(code.as_str()),
            Span::Code(_) | Span::Text(_) => span(piece),
        })
        .collect()
}

fn span(span: &Span) -> String {
    match span {
        Span::Text(text) => escaped(text.as_str()),
        Span::Code(code) => code_span(code.as_str()),
    }
}

/// A backtick, a bracket or a bar in words is a character and no markup; nor does an address become a link.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_[]<>|~&$#!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.replace("://", ":\\//").replace("www.", "www\\.")
}

/// What would make a list, a quotation or a rule of a paragraph that begins with it.
fn guard_start(text: &str) -> String {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    match text.chars().next() {
        Some('-' | '+' | '=') => format!("\\{text}"),
        Some(_) if digits > 0 && text[digits..].starts_with(['.', ')']) => {
            format!("{}\\{}", &text[..digits], &text[digits..])
        }
        _ => text.to_owned(),
    }
}

/// Code for a table cell. A bar ends a cell even within a code span, and renderers disagree on what a backslash before
/// it means after another backslash; a character reference they all read alike.
fn entities(code: &str) -> String {
    let mut out = String::from("<code>");
    for c in code.chars() {
        if c.is_ascii_punctuation() {
            out.push_str(&format!("&#{};", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out + "</code>"
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn code_span(code: &str) -> String {
    if code.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(code) + 1);
    // Blanks inside keep a backtick at either end apart from the fence; Markdown takes one away again.
    let pad = if code.starts_with(['`', ' ']) || code.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{code}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_become_markup() {
        let line = Line::from("[x](http://evil) <b> `a` | *b* _c_");
        let text = inline(&line);
        assert_eq!(text, "\\[x\\](http:\\//evil) \\<b\\> \\`a\\` \\| \\*b\\* \\_c\\_");
        assert_eq!(inline(&Line::from("1. not a list")), "1\\. not a list");
        assert_eq!(inline(&Line::from("- not a list")), "\\- not a list");
    }

    #[test]
    fn code_cannot_end_its_own_span_or_a_table_cell() {
        assert_eq!(code_span("a``b"), "```a``b```");
        assert_eq!(code_span("`a"), "`` `a ``");
        assert_eq!(in_cell(&Line::new().code("a|b")), "<code>a&#124;b</code>");
        assert_eq!(in_cell(&Line::new().code("a`b")), "``a`b``");
    }
}
