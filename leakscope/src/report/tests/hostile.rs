use super::fixtures::*;
use crate::report::*;

/// What a process may call itself.
const HOSTILE: &str =
    "\x1b]0;owned\x07\x1b[2J</code><script>alert('1')</script> | `x` \n# Resolution\r\u{9b}31m\u{202e}cod";

fn hostile() -> Incident {
    let mut incident = lab();
    let suspect = &mut incident.hunt.suspects[0];
    suspect.cmdline = vec!["python3".to_owned(), HOSTILE.to_owned()];
    suspect.comm = HOSTILE.to_owned();
    suspect.exe = Some(HOSTILE.to_owned());
    suspect.user = Some(HOSTILE.to_owned());
    suspect.owner = OwnerLine {
        cgroup: Some(HOSTILE.to_owned()),
        unit: Some(format!("{HOSTILE}.service")),
        container: Some(HOSTILE.to_owned()),
        pidfile: Some(HOSTILE.to_owned()),
    };
    suspect.reasons = vec![HOSTILE.to_owned()];
    suspect.places.as_mut().unwrap()[0].frames = vec![HOSTILE.to_owned()];
    incident.hunt.host.hostname = HOSTILE.to_owned();
    incident.hunt.actions[0].checks[0].detail = HOSTILE.to_owned();
    incident.hunt.actions[0].detail = HOSTILE.to_owned();
    incident.timeline[1].text = HOSTILE.to_owned();
    incident.oom_choice.as_mut().unwrap().name = HOSTILE.to_owned();
    incident.stories[0].beside[0].name = HOSTILE.to_owned();
    for candidate in &mut incident.candidates {
        candidate.name = HOSTILE.to_owned();
        candidate.why = HOSTILE.to_owned();
    }
    incident
}

fn harmless(text: &str) {
    let found = text.chars().find(|&c| c != '\n' && crate::report::printable::acts(c));
    assert_eq!(found, None, "{text}");
}

#[test]
fn no_form_of_a_report_carries_what_a_terminal_acts_on() {
    for (name, format) in ReportFormat::NAMES {
        let text = hostile().render(format).unwrap();
        assert!(text.contains("owned"), "the hostile text is shown at all: {name}");
        harmless(&text);
    }
    let mut watch = watch();
    watch.processes[0].cmdline = vec![HOSTILE.to_owned()];
    harmless(&watch.to_json_line().unwrap());
    for width in [20, 80, 300] {
        harmless(&watch.to_table().to_text(Style { color: false, width }));
    }
}

#[test]
fn a_process_cannot_forge_a_heading() {
    let text = hostile().render(ReportFormat::Text).unwrap();
    assert_eq!(text.lines().filter(|line| line.trim() == "Resolution").count(), 1, "{text}");
    let markdown = hostile().render(ReportFormat::Markdown).unwrap();
    assert_eq!(markdown.lines().filter(|line| line.starts_with("# ")).count(), 1);
    assert_eq!(markdown.lines().filter(|line| line.starts_with("## ")).count(), 7);
}

#[test]
fn html_holds_no_element_that_a_process_wrote() {
    let html = hostile().render(ReportFormat::Html).unwrap();
    assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
    for forbidden in
        ["<script", "alert('", "javascript:", "http://", "https://", "src=", "href=", "@import", "url("]
    {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("default-src 'none'"));
    assert!(html.contains("prefers-color-scheme:dark"));
}

#[test]
fn html_elements_are_closed_in_order() {
    for incident in [lab(), hostile(), procfs_observed()] {
        let html = incident.render(ReportFormat::Html).unwrap();
        let body = html.split("</style>").nth(1).unwrap();
        let mut open: Vec<String> = ["html", "head"].map(String::from).to_vec();
        for tag in body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(closed));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().to_owned());
            }
        }
        assert_eq!(open, Vec::<String>::new());
    }
}

#[test]
fn the_drawing_marks_the_kill_and_ends_at_the_footprint() {
    let html = lab().render(ReportFormat::Html).unwrap();
    assert!(html.contains("<polyline class=\"curve\" points=\"70.0,"));
    assert!(html.contains(">killed</text>"));
    let without = procfs_observed().render(ReportFormat::Html).unwrap();
    assert!(without.contains("<polyline") && !without.contains(">killed<"));
}

#[test]
fn every_row_of_a_markdown_table_has_the_cells_of_its_head() {
    let markdown = hostile().render(ReportFormat::Markdown).unwrap();
    let mut head = None;
    for line in markdown.lines() {
        if !line.starts_with("| ") {
            head = None;
            continue;
        }
        let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        assert_eq!(*head.get_or_insert(bars), bars, "{line}");
    }
}
