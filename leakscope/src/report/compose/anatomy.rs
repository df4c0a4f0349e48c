//! What the process consisted of when its leak was confirmed, in words.

use super::super::anatomy::{AnatomyLine, MappingLine};
use super::super::printable::{Line, Printable, Span};
use crate::units::Bytes;

/// Mappings that a sentence names, and the share of all anonymous memory from which one is worth it.
const NAMED: usize = 3;
const WORTH: f64 = 0.05;
/// Characters of a mapping's name.
const NAME_LENGTH: usize = 60;

/// Where its memory lay, how many files and threads it had, and where more of it is kept.
pub(super) fn sentence(anatomy: &AnatomyLine) -> Option<Line> {
    let mut line = Line::new();
    if let Some(mappings) = &anatomy.mappings {
        line = line.then(lay(mappings));
        if let Some(why) = &anatomy.mappings_incomplete {
            line = line.text(format!(" (not all of its mappings were read: {why})"));
        }
        line = line.text(".");
    }
    let threads = |count| if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") };
    let counted: Vec<String> =
        [anatomy.open_files.map(|files| format!("{files} open files")), anatomy.threads.map(threads)]
            .into_iter()
            .flatten()
            .collect();
    if !counted.is_empty() {
        line = line.text(format!(" It had {}.", counted.join(" and ")));
    }
    if let Some(folder) = &anatomy.evidence {
        line = line.text(" What was read of it is kept in ").code(folder).text(".");
    }
    (!line.is_empty()).then_some(line)
}

fn lay(mappings: &[MappingLine]) -> Line {
    let held = |mapping: &MappingLine| mapping.anon_bytes + mapping.swap_bytes;
    let all = mappings.iter().map(held).fold(Bytes::ZERO, |sum, bytes| sum + bytes);
    let worth = |mapping: &&MappingLine| all > Bytes::ZERO && held(mapping).as_f64() >= WORTH * all.as_f64();
    let named: Vec<&MappingLine> = mappings.iter().filter(worth).take(NAMED).collect();
    let mut line = Line::new().text("When the leak was confirmed, its anonymous memory lay in ");
    if named.is_empty() {
        line = line.text("no mapping worth naming");
    }
    for (i, mapping) in named.iter().enumerate() {
        let before = match i {
            0 => "",
            _ if i + 1 == named.len() => " and ",
            _ => ", ",
        };
        let pieces = if mapping.count > 1 { format!(", {} mappings", mapping.count) } else { String::new() };
        let name = Span::Code(Printable::limited(&mapping.name, NAME_LENGTH));
        line = line.text(before).then(Line(vec![name])).text(format!(" ({}{pieces})", held(mapping)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(name: &str, count: u64, mb: u64) -> MappingLine {
        let bytes = Bytes(mb * 1_000_000);
        MappingLine {
            name: name.to_owned(),
            count,
            rss_bytes: bytes,
            anon_bytes: bytes,
            swap_bytes: Bytes::ZERO,
        }
    }

    #[test]
    fn the_largest_mappings_are_named_and_small_change_is_not() {
        let anatomy = AnatomyLine {
            open_files: Some(12),
            threads: Some(1),
            mappings: Some(vec![
                mapping("[heap]", 1, 80),
                mapping("[anon]", 7, 15),
                mapping("/lib/x.so", 3, 1),
            ]),
            mappings_incomplete: None,
            evidence: Some("/var/tmp/evidence/pid-7-1".to_owned()),
        };
        assert_eq!(
            sentence(&anatomy).unwrap().plain(),
            "When the leak was confirmed, its anonymous memory lay in [heap] (80.0 MB) and [anon] (15.0 MB, 7 \
             mappings). It had 12 open files and 1 thread. What was read of it is kept in /var/tmp/evidence/pid-7-1."
        );
        assert_eq!(sentence(&AnatomyLine::default()), None);
    }
}
