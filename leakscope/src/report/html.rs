//! A document as one HTML file: no script, no network, light or dark as the reader's system is.
//!
//! The policy in its head forbids a browser to load or run anything, whatever a process calls itself.

use super::document::{Block, Document};
use super::printable::{Line, Span};
use super::svg;
use super::table::{Mark, Table};

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c1e21;--page:#fff;--line:#d4d7dc;--soft:#5c636d;--code:#f2f3f5;\
--good:#1a7f37;--watch:#8a5a00;--bad:#c4232b;--curve:#1f6feb;--other:#6e7781;--limit:#8250df}\
@media(prefers-color-scheme:dark){:root{--text:#e3e5e8;--page:#16181c;--line:#3a3f46;--soft:#9aa2ad;--code:#22252a;\
--good:#4cc26b;--watch:#e0a83a;--bad:#ff6b70;--curve:#6ea8ff;--other:#9aa2ad;--limit:#b392f0}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:60rem;margin:2rem auto;\
padding:0 1rem;overflow-wrap:break-word}h1{font-size:1.6rem}\
h2{font-size:1.2rem;border-bottom:1px solid var(--line);margin-top:2rem}\
h3{font-size:1rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em;background:var(--code);border-radius:3px}\
code{padding:.1em .3em;overflow-wrap:anywhere}pre{padding:.7em;overflow-x:auto}\
table{border-collapse:collapse;font-size:.9rem;display:block;overflow-x:auto}\
th,td{border-bottom:1px solid var(--line);padding:.3em .7em;text-align:left;vertical-align:top}\
.number{text-align:right;white-space:nowrap}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1em}\
dt{color:var(--soft)}dd{margin:0}.good{color:var(--good)}.watch{color:var(--watch)}.bad{color:var(--bad);font-weight:600}\
.faint{color:var(--soft)}figure{margin:1em 0}figcaption{color:var(--soft);font-size:.9rem}svg{width:100%;height:auto}\
svg text{fill:var(--soft);font-size:12px}.grid{stroke:var(--line)}\
.curve,.other,.host,.trend{fill:none;stroke-width:2;stroke-linejoin:round}.curve{stroke:var(--curve)}\
.other{stroke:var(--other)}.host{stroke:var(--good)}.trend{stroke:var(--watch);stroke-dasharray:7 4}\
.band{fill:var(--watch);fill-opacity:.2;stroke:var(--watch);stroke-opacity:.5}.limit,.arrow{stroke:var(--limit);stroke-width:2;fill:none}\
.kill{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:4 3}.back{fill:var(--good)}\
svg .killed{fill:var(--bad)}svg .returned{fill:var(--good)}svg .limited{fill:var(--limit)}\
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2em 1.2em;margin:0 0 .5em;padding:0;font-size:.85rem}\
.legend svg{width:24px;height:10px;margin-right:.4em}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:0 1em}.charts figure{margin:.5em 0}";

/// Writes `document` as HTML.
pub fn to_html(document: &Document) -> String {
    let title = escaped(&document.title.plain());
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{}</h1>\n",
        inline(&document.title)
    );
    for block in &document.preamble {
        write_block(&mut out, block);
    }
    for section in &document.sections {
        out.push_str(&format!("<section>\n<h2>{}</h2>\n", escaped(section.heading)));
        for block in &section.blocks {
            write_block(&mut out, block);
        }
        out.push_str("</section>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn write_block(out: &mut String, block: &Block) {
    match block {
        Block::Paragraph(line) => out.push_str(&format!("<p>{}</p>\n", inline(line))),
        Block::Subheading(line) => out.push_str(&format!("<h3>{}</h3>\n", inline(line))),
        Block::Bullets(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", inline(item))).collect();
            out.push_str(&format!("<ul>\n{items}</ul>\n"));
        }
        Block::Facts(facts) => {
            let row = |(name, value): &(&str, Line)| {
                format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), inline(value))
            };
            out.push_str(&format!("<dl>\n{}</dl>\n", facts.iter().map(row).collect::<String>()));
        }
        Block::Table(table) => write_table(out, table),
        Block::Code(lines) => {
            let lines: Vec<String> = lines.iter().map(|line| escaped(line.as_str())).collect();
            out.push_str(&format!("<pre>{}</pre>\n", lines.join("\n")));
        }
        Block::Chart(chart) => {
            let (caption, drawings) = (inline(&chart.caption), svg::chart(chart));
            out.push_str(&format!("<figure>\n<figcaption>{caption}</figcaption>\n{drawings}</figure>\n"));
            let words: String =
                chart.in_words().iter().map(|line| format!("<li>{}</li>\n", inline(line))).collect();
            if !words.is_empty() {
                out.push_str(&format!("<ul>\n{words}</ul>\n"));
            }
        }
    }
}

fn write_table(out: &mut String, table: &Table) {
    let class = |number: bool, mark: Option<Mark>| {
        let mark = mark.map(|mark| match mark {
            Mark::Good => "good",
            Mark::Watch => "watch",
            Mark::Bad => "bad",
            Mark::Faint => "faint",
        });
        match (number, mark) {
            (false, None) => String::new(),
            (true, None) => " class=\"number\"".to_owned(),
            (false, Some(mark)) => format!(" class=\"{mark}\""),
            (true, Some(mark)) => format!(" class=\"number {mark}\""),
        }
    };
    out.push_str("<table>\n<thead><tr>");
    for column in &table.columns {
        out.push_str(&format!("<th{}>{}</th>", class(column.number, None), escaped(column.title)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (column, cell) in table.columns.iter().zip(row) {
            out.push_str(&format!("<td{}>{}</td>", class(column.number, cell.mark), inline(&cell.line)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n");
}

/// A line with its code marked as such.
pub(super) fn inline(line: &Line) -> String {
    let span = |span: &Span| match span {
        Span::Text(text) => escaped(text.as_str()),
        Span::Code(code) => format!("<code>{}</code>", escaped(code.as_str())),
    };
    line.0.iter().map(span).collect()
}

/// Text for an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
