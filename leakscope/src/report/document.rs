//! A report before it has a form: a title, facts, sections of paragraphs, lists and tables.
//!
//! Every text in it is [`super::Printable`], so a renderer only has to add the escapes of its own language.

use super::chart::Chart;
use super::printable::{Line, Printable};
use super::table::Table;

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it is about.
    pub title: Line,
    /// What stands above the first heading.
    pub preamble: Vec<Block>,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

/// A heading and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The heading.
    pub heading: &'static str,
    /// What follows.
    pub blocks: Vec<Block>,
}

impl Section {
    /// A section without anything in it yet.
    pub fn new(heading: &'static str) -> Self {
        Self { heading, blocks: Vec::new() }
    }

    /// Adds a paragraph; an empty one is left out.
    pub fn say(&mut self, line: impl Into<Line>) {
        let line = line.into();
        if !line.is_empty() {
            self.blocks.push(Block::Paragraph(line));
        }
    }

    /// Adds a list; an empty one is left out.
    pub fn list(&mut self, items: Vec<Line>) {
        if !items.is_empty() {
            self.blocks.push(Block::Bullets(items));
        }
    }

    /// Adds a table; one without rows is left out.
    pub fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }
}

/// A part of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Sentences.
    Paragraph(Line),
    /// A heading within a section.
    Subheading(Line),
    /// A list.
    Bullets(Vec<Line>),
    /// Names and values.
    Facts(Vec<(&'static str, Line)>),
    /// A table.
    Table(Table),
    /// Lines to be copied; never wrapped.
    Code(Vec<Printable>),
    /// A footprint over time.
    Chart(Box<Chart>),
}
