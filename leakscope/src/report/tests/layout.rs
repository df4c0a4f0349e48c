use unicode_width::UnicodeWidthStr;

use super::fixtures::*;
use crate::report::*;

fn doctor() -> Table {
    doctor_table(&[
        DoctorLine {
            item: "tracepoint kmem:rss_stat".to_owned(),
            health: Health::Works,
            detail: "its format is the one this build expects".to_owned(),
        },
        DoctorLine {
            item: "CAP_PERFMON".to_owned(),
            health: Health::Missing,
            detail: "no kernel side can be loaded; run as root, or grant CAP_BPF and CAP_PERFMON".to_owned(),
        },
    ])
}

fn wide_watch() -> Table {
    let mut watch = watch();
    watch.processes[0].cmdline = vec!["日本語サーバー".repeat(40), "e\u{301}".repeat(3000)];
    watch.to_table()
}

#[test]
fn no_line_of_a_table_is_longer_than_the_screen() {
    let incident = lab();
    let tables = [
        watch().to_table(),
        wide_watch(),
        candidates_table(&incident.candidates),
        checks_table(&incident.hunt.actions[0].checks),
        doctor(),
    ];
    for width in (1..=100).chain((110..=300).step_by(10)) {
        for table in &tables {
            for line in table.to_text(Style { color: false, width }).lines() {
                assert!(line.width() <= width, "{} in {width}: {line}", line.width());
            }
        }
    }
}

#[test]
fn a_watch_row_is_one_line_and_keeps_the_pid_on_the_narrowest_screen() {
    for width in 20..=300 {
        let text = wide_watch().to_text(Style { color: false, width });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("4194304") && text.contains("PROCESS"), "{width}: {text}");
    }
}

#[test]
fn colour_adds_nothing_that_is_read() {
    for width in [20, 60, 80, 120] {
        let plain = watch().to_table().to_text(Style { color: false, width });
        let colored = watch().to_table().to_text(Style { color: true, width });
        assert!(colored.contains("\x1b["));
        let stripped: String = strip(&colored).lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(stripped, plain);
    }
}

/// Without the escape sequences of colours.
fn strip(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').unwrap().1);
    }
    out
}

#[test]
fn the_watch_table_on_screens_of_three_widths() {
    let tables: Vec<String> =
        [40, 80, 140].map(|width| watch().to_table().to_text(Style { color: false, width })).to_vec();
    insta::assert_snapshot!(tables.join("\n"));
}

#[test]
fn services_that_grow_stand_below_the_ranking_and_never_take_more_lines_than_was_said() {
    let with = |count| WatchLine { services: vec![service(); count], ..watch() };
    for count in [0, 1, 5, 6, 40] {
        let text = with(count).services_text(Style { color: false, width: 80 });
        assert_eq!(text.lines().count(), WatchLine::lines_of_services(count), "{text}");
        for width in 1..=200 {
            let text = with(count).services_text(Style { color: false, width });
            assert!(text.lines().all(|line| line.width() <= width), "in {width}: {text}");
        }
    }
    let tables: Vec<String> = [(1, 40), (1, 100), (7, 100)]
        .map(|(count, width)| with(count).services_text(Style { color: false, width }))
        .to_vec();
    insta::assert_snapshot!(tables.join("\n"));
}

#[test]
fn a_report_keeps_to_eighty_columns_but_for_lines_to_be_copied() {
    for incident in [lab(), procfs_observed()] {
        for line in incident.render(ReportFormat::Text).unwrap().lines() {
            assert!(line.width() <= 80 || line.starts_with("    "), "{line}");
            assert_eq!(line, line.trim_end());
            assert!(line.is_ascii(), "{line}");
        }
    }
}

#[test]
fn a_figure_and_its_unit_stand_on_one_line() {
    for width in 20..=120 {
        let text = to_text(&compose(&lab()), Style { color: false, width });
        for start in ["KB/s", "KB", "MB", "GB", "%", "ms", "min"] {
            let parted =
                text.lines().find(|line| line.trim_start().split([' ', ',', '.']).next() == Some(start));
            assert_eq!(parted, None, "in {width}");
        }
    }
}

#[test]
fn any_report_can_be_laid_out_on_any_screen() {
    for width in 0..=200 {
        to_text(&compose(&lab()), Style { color: false, width });
    }
}
