//! Tables as values: columns that know what may be done to them when there is too little room, and rows of cells.
//!
//! The same table is laid out for a terminal ([`Table::to_text`], which never exceeds the width it is given) and written
//! as Markdown or HTML. Laying out starts at `Layout::new`.

use tabled::builder::Builder;
use tabled::settings::object::{Cell as At, Columns, Rows};
use tabled::settings::{Alignment, Color, Modify, Padding, Style as Border};
use textwrap::Options;
use unicode_width::UnicodeWidthStr;

use super::printable::Line;
use crate::leak::State;

/// How something is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colour.
    pub color: bool,
    /// How many columns there are.
    pub width: usize,
}

impl Style {
    /// For a file: 80 columns, no colour.
    pub const FILE: Self = Self { color: false, width: 80 };
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What it is called.
    pub title: &'static str,
    /// Whether its cells are numbers, which line up on the right.
    pub number: bool,
    /// What may be done to its cells where there is too little room.
    pub fit: Fit,
    /// When it is left out: the lowest goes first, [`Column::ALWAYS`] never goes.
    pub keep: u8,
}

impl Column {
    /// The rank of a column that is never left out.
    pub const ALWAYS: u8 = u8::MAX;

    /// A column of words that are never cut.
    pub const fn new(title: &'static str) -> Self {
        Self { title, number: false, fit: Fit::Whole, keep: Self::ALWAYS }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self { number: true, ..Self::new(title) }
    }

    /// The same with another fit.
    pub const fn fit(self, fit: Fit) -> Self {
        Self { fit, ..self }
    }

    /// The same with another rank.
    pub const fn keep(self, keep: u8) -> Self {
        Self { keep, ..self }
    }
}

/// What may be done to a column's cells where there is too little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Nothing.
    Whole,
    /// Cut them, but not below this many columns.
    Cut(usize),
    /// Break them into several lines, not narrower than this many columns.
    Wrap(usize),
}

/// What a cell is marked with on a terminal that has colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth a look.
    Watch,
    /// Wrong.
    Bad,
    /// Nothing to see here.
    Faint,
}

impl Mark {
    /// The mark of a verdict: wrong only where it is confirmed, none for what is neither growth nor new.
    pub const fn of(state: State, confirmed: bool) -> Option<Self> {
        match state.severity() {
            _ if confirmed => Some(Self::Bad),
            1.. => Some(Self::Watch),
            _ if matches!(state, State::Learning) => Some(Self::Faint),
            _ => None,
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Good => Color::FG_GREEN,
            Self::Watch => Color::FG_YELLOW,
            Self::Bad => Color::FG_BRIGHT_RED | Color::BOLD,
            Self::Faint => Color::FG_BRIGHT_BLACK,
        }
    }
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What is in it; nothing where nothing was measured.
    pub line: Line,
    /// How it is marked.
    pub mark: Option<Mark>,
}

impl Cell {
    /// A cell with this mark.
    pub fn marked(line: impl Into<Line>, mark: Option<Mark>) -> Self {
        Self { line: line.into(), mark }
    }

    /// What was measured, or `-`.
    pub fn measured<T: ToString>(value: Option<T>) -> Self {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string()).into()
    }
}

impl<T: Into<Line>> From<T> for Cell {
    fn from(line: T) -> Self {
        Self::marked(line, None)
    }
}

/// Columns and rows. A row has one cell for each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The columns, from the left.
    pub columns: Vec<Column>,
    /// The rows, from the top.
    pub rows: Vec<Vec<Cell>>,
    /// Whether a line of dashes goes under the titles.
    pub rule: bool,
}

impl Table {
    /// The table for a terminal or a text file: no line is longer than `style.width`, each ends with a line break.
    pub fn to_text(&self, style: Style) -> String {
        let layout = Layout::new(self, style.width.max(1));
        let shown = |i: usize, text: &str| layout.cell(i, self.columns[i].fit, text);
        let mut builder = Builder::default();
        builder.push_record(layout.kept.iter().map(|&i| cut(self.columns[i].title, layout.widths[i])));
        if self.rule {
            builder.push_record(layout.kept.iter().map(|&i| "-".repeat(layout.widths[i])));
        }
        for row in &self.rows {
            let cells = layout.kept.iter().map(|&i| (i, row.get(i).map(|cell| cell.line.plain())));
            builder.push_record(cells.map(|(i, text)| shown(i, text.as_deref().unwrap_or_default())));
        }
        let mut table = builder.build();
        table.with(Border::empty()).with(Padding::new(0, 2, 0, 0));
        table.modify(Columns::last(), Padding::zero());
        for (place, _) in layout.kept.iter().enumerate().filter(|&(_, &i)| self.columns[i].number) {
            table.modify(Columns::one(place), Alignment::right());
        }
        if style.color {
            self.paint(&mut table, &layout);
        }
        table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn paint(&self, table: &mut tabled::Table, layout: &Layout) {
        table.with(Modify::new(Rows::first()).with(Color::BOLD));
        let first = if self.rule { 2 } else { 1 };
        for (y, row) in self.rows.iter().enumerate() {
            for (x, &i) in layout.kept.iter().enumerate() {
                if let Some(mark) = row.get(i).and_then(|cell| cell.mark) {
                    table.with(Modify::new(At::new(first + y, x)).with(mark.color()));
                }
            }
        }
    }
}

/// Between two columns.
const GAP: usize = 2;

/// Which columns are shown, and how wide.
struct Layout {
    kept: Vec<usize>,
    /// By the index of the column in the table.
    widths: Vec<usize>,
}

impl Layout {
    fn new(table: &Table, width: usize) -> Self {
        let natural: Vec<usize> = (0..table.columns.len()).map(|i| natural_width(table, i)).collect();
        let least = |i: usize| match table.columns[i].fit {
            Fit::Whole => natural[i],
            Fit::Cut(least) | Fit::Wrap(least) => least.min(natural[i]),
        };
        let mut kept: Vec<usize> = (0..table.columns.len()).collect();
        let needed = |kept: &[usize]| {
            kept.iter().map(|&i| least(i)).sum::<usize>() + GAP * kept.len().saturating_sub(1)
        };
        while needed(&kept) > width {
            let droppable = kept.iter().filter(|&&i| table.columns[i].keep < Column::ALWAYS);
            let Some(&goes) = droppable.min_by_key(|&&i| table.columns[i].keep) else { break };
            kept.retain(|&i| i != goes);
        }
        let mut widths: Vec<usize> = (0..table.columns.len()).map(least).collect();
        // What is cut is lost, what is wrapped is not: room goes to columns that would be cut first.
        let first = |i: usize| match table.columns[i].fit {
            Fit::Cut(_) => natural[i].min(READABLE),
            Fit::Whole | Fit::Wrap(_) => least(i),
        };
        let wanted: Vec<usize> = (0..table.columns.len()).map(first).collect();
        spread(&mut widths, &wanted, &kept, width);
        spread(&mut widths, &natural, &kept, width);
        squeeze(&mut widths, &mut kept, width);
        Self { kept, widths }
    }

    fn cell(&self, column: usize, fit: Fit, text: &str) -> String {
        let width = self.widths[column];
        match fit {
            Fit::Wrap(_) => super::text::fill(text, Options::new(width)),
            Fit::Whole | Fit::Cut(_) => cut(text, width),
        }
    }
}

/// Hands out the room that is left, one column of the screen at a time to the narrowest that wants more: where two
/// columns could take all of it, they share.
fn spread(widths: &mut [usize], natural: &[usize], kept: &[usize], width: usize) {
    let used = kept.iter().map(|&i| widths[i]).sum::<usize>() + GAP * kept.len().saturating_sub(1);
    for _ in used..width {
        let hungry = kept.iter().filter(|&&i| widths[i] < natural[i]);
        let Some(&i) = hungry.min_by_key(|&&i| widths[i]) else { break };
        widths[i] += 1;
    }
}

/// The last resort on a very narrow screen: the widest column gives way until the rest fits, then the last column goes.
fn squeeze(widths: &mut [usize], kept: &mut Vec<usize>, width: usize) {
    loop {
        let used = kept.iter().map(|&i| widths[i]).sum::<usize>() + GAP * kept.len().saturating_sub(1);
        if used <= width {
            return;
        }
        match kept.iter().copied().filter(|&i| widths[i] > 1).max_by_key(|&i| widths[i]) {
            Some(widest) => widths[widest] -= 1,
            None if kept.len() > 1 => drop(kept.pop()),
            None => return,
        }
    }
}

/// A cut command line of this width still tells most programs apart.
const READABLE: usize = 28;

/// A cell wider than this is not measured any further: no screen shows it.
const WIDEST: usize = 400;

fn natural_width(table: &Table, column: usize) -> usize {
    let cells = table.rows.iter().filter_map(|row| row.get(column));
    let widest = cells.map(|cell| cell.line.plain().width()).max().unwrap_or(0);
    widest.max(table.columns[column].title.width()).clamp(1, WIDEST)
}

/// `text` in at most `width` columns of the screen; what is cut ends in dots.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width && text.chars().count() <= width.saturating_mul(4) {
        return text.to_owned();
    }
    let dots = if width > 6 { "..." } else { "" };
    // Characters without a width of their own do not fill a line, but a memory: four for each column is plenty.
    let mut kept: String = text.chars().take(width.saturating_mul(4)).collect();
    while kept.width() + dots.len() > width {
        kept.pop();
    }
    kept + dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_fits_whatever_it_is_made_of() {
        for text in [
            "plain words that go on",
            "日本語の長いプロセス名",
            "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
            "",
        ] {
            for width in 0..30 {
                assert!(cut(text, width).width() <= width, "{text} in {width}");
            }
        }
        assert_eq!(cut("plain words", 8), "plain...");
        assert_eq!(cut("plain", 5), "plain");
    }

    #[test]
    fn the_least_important_column_goes_first() {
        let table = Table {
            columns: vec![
                Column::new("KEY"),
                Column::number("LATER").keep(2),
                Column::number("FIRST").keep(1),
            ],
            rows: vec![vec!["value".into(), "12345".into(), "67890".into()]],
            rule: false,
        };
        let at = |width| table.to_text(Style { color: false, width });
        assert!(at(19).contains("FIRST"));
        assert!(!at(18).contains("FIRST") && at(18).contains("LATER"));
        assert!(!at(11).contains("LATER") && at(11).contains("value"));
    }
}
