//! The forms that a report has, and how one is chosen.

use std::path::Path;

use super::incident::Incident;
use super::table::Style;
use super::{compose, html, markdown, text};

/// A form of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// Plain text, 80 columns.
    #[default]
    Text,
    /// Markdown.
    Markdown,
    /// One HTML file.
    Html,
    /// The object that `hunt --json` prints.
    Json,
}

impl ReportFormat {
    /// What `--report-format` takes.
    pub const NAMES: [(&str, Self); 4] =
        [("text", Self::Text), ("md", Self::Markdown), ("html", Self::Html), ("json", Self::Json)];

    /// From a file's ending; text for an ending that means nothing here.
    pub fn of_path(path: &Path) -> Self {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("md" | "markdown") => Self::Markdown,
            Some("html" | "htm") => Self::Html,
            Some("json") => Self::Json,
            _ => Self::Text,
        }
    }
}

impl Incident {
    /// The report in this form.
    ///
    /// # Errors
    /// Where JSON cannot be written, which no value of these types leads to.
    pub fn render(&self, format: ReportFormat) -> anyhow::Result<String> {
        Ok(match format {
            ReportFormat::Text => text::to_text(&compose::compose(self), Style::FILE),
            ReportFormat::Markdown => markdown::to_markdown(&compose::compose(self)),
            ReportFormat::Html => html::to_html(&compose::compose(self)),
            ReportFormat::Json => self.hunt.to_json()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_names_the_form() {
        for (path, format) in [
            ("/tmp/incident-report.txt", ReportFormat::Text),
            ("r.MD", ReportFormat::Markdown),
            ("r.html", ReportFormat::Html),
            ("r.json", ReportFormat::Json),
            ("r.tar.gz", ReportFormat::Text),
            ("report", ReportFormat::Text),
        ] {
            assert_eq!(ReportFormat::of_path(Path::new(path)), format, "{path}");
        }
    }
}
