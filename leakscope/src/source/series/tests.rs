//! What others wrote, read with all its faults.

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Heap {
    rows: Vec<Row>,
    bad: Vec<Bad>,
}

impl Rows for Heap {
    fn row(&mut self, row: Row) {
        self.rows.push(row);
    }
    fn bad(&mut self, bad: Bad) {
        self.bad.push(bad);
    }
}

fn heap(text: &[u8]) -> Result<Heap, SeriesError> {
    let mut heap = Heap::default();
    read(&mut &*text, &mut heap)?;
    Ok(heap)
}

#[test]
fn csv_is_read_by_its_header_whatever_the_order_and_the_other_columns() {
    let text = "\u{feff}pid, other ,anon_bytes,comm,at_s,limit_bytes,swap_bytes\r\n7,x,4096,\"a, \"\"b\"\"\",1.5,1e6,8192\r\n\r\n8,,0,,2,,";
    let heap = heap(text.as_bytes()).unwrap();
    assert_eq!(heap.bad, []);
    let row = &heap.rows[0];
    assert_eq!((row.name.pid, row.name.comm.as_str(), row.at_s), (Some(Pid(7)), "a, \"b\"", 1.5));
    assert_eq!((row.memory.anon, row.memory.swap), (Bytes(4096), Bytes(8192)));
    assert_eq!(row.room.as_ref().unwrap().left, Bytes(1_000_000 - 12_288));
    assert_eq!((heap.rows[1].name.pid, heap.rows[1].place), (Some(Pid(8)), Place::Line(4)));
}

#[test]
fn each_bad_line_is_named_and_costs_nothing_but_itself() {
    let text = "at_s,pid,comm,anon_bytes\n1,7,x,100\nnan,7,x,1\n1700000000000,7,x,1\n2,-7,x,1\n2,7,x,NaN\n2,7,x,-1\n\
                2,7,x,1e300\n2,7\n2,7,\"never closed,5\n3,7,x,200\n";
    let heap = heap(text.as_bytes()).unwrap();
    assert_eq!(heap.rows.iter().map(|row| row.memory.anon.0).collect::<Vec<_>>(), [100, 200]);
    let lines: Vec<_> = heap.bad.iter().map(|bad| bad.place).collect();
    assert_eq!(lines, (3..=10).map(Place::Line).collect::<Vec<_>>(), "{:?}", heap.bad);
    assert_eq!(heap.bad[4].why, "anon_bytes: `-1` is no possible number of bytes");
}

#[test]
fn a_header_that_lacks_columns_is_an_error_that_names_them() {
    let error = heap(b"at_s,pid,rss\n1,2,3\n").err().unwrap();
    assert_eq!(error.to_string(), "line 1: the CSV header lacks comm and anon_bytes");
    assert!(matches!(heap(b""), Err(SeriesError::Empty)));
    assert!(matches!(heap(b"\n \n"), Err(SeriesError::Empty)));
    assert!(matches!(heap(b"hello\n"), Err(SeriesError::Unknown)));
}

#[test]
fn a_line_without_end_takes_no_more_memory_than_a_line() {
    let mut text = b"at_s,pid,comm,anon_bytes\n".to_vec();
    text.extend(vec![b'x'; 1 << 20]);
    text.extend(b"\n1,7,x,100\n");
    let heap = heap(&text).unwrap();
    assert_eq!((heap.bad.len(), heap.rows.len(), heap.rows[0].place), (1, 1, Place::Line(3)));
}

#[test]
fn the_monitoring_log_is_one_series_of_the_host() {
    let text = "2026-11-23T01:00:00Z total_bytes=1000 used_bytes=400 available_bytes=600\n\
                garbage\n2026-11-23T01:00:05Z total_bytes=1000 used_bytes=410 available_bytes=590\n";
    let heap = heap(text.as_bytes()).unwrap();
    assert_eq!((heap.rows.len(), heap.bad.len()), (2, 1));
    assert_eq!(heap.rows[1].at_s - heap.rows[0].at_s, 5.0);
    assert_eq!(heap.rows[0].name, Name { pid: None, comm: "host".to_owned() });
    assert_eq!(heap.rows[1].room.as_ref().unwrap().left, Bytes(590));
}

#[test]
fn prometheus_answers_are_read_and_its_errors_are_shown() {
    let good = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"rss","pid":"7",
        "job":"x"},"values":[[1764000000.5,"1e6"],[1764000015.5,"NaN"],[1764000030.5,"2000000"]]}]}}"#;
    let heap_of = heap(good.as_bytes()).unwrap();
    assert_eq!((heap_of.rows.len(), heap_of.bad.len()), (2, 1));
    assert_eq!(heap_of.rows[0].name.pid, Some(Pid(7)));
    assert_eq!(heap_of.rows[0].name.comm, r#"rss{job="x",pid="7"}"#);
    let bad = br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    assert_eq!(heap(bad).err().unwrap().to_string(), "Prometheus answered with an error: parse error");
    let vector = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    assert!(heap(vector).err().unwrap().to_string().contains("a vector, not a matrix"));
    for broken in [&b"{"[..], b"{}", b"{\"status\":\"success\"}", b"{\"status\":1}"] {
        assert!(heap(broken).is_err());
    }
}

#[test]
fn an_answer_on_one_long_line_is_read_sample_by_sample() {
    let values: Vec<String> = (0..20_000).map(|at| format!("[{at},\"{at}\"]")).collect();
    let head = r#"  {"data":{"result":[{"metric":{"pid":"7"},"values":["#;
    let text = format!(
        "\u{feff}\n{head}{}]}}],\"resultType\":\"matrix\"}},\"status\":\"success\"}}",
        values.join(",")
    );
    let heap = heap(text.as_bytes()).unwrap();
    assert_eq!((heap.rows.len(), heap.bad.len()), (20_000, 0));
    assert_eq!(heap.rows[19_999].place, Place::Sample(20_000, 1));
}

#[test]
fn an_answer_that_ends_early_tells_what_it_held_and_that_it_ended() {
    let text =
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"],[2,"#;
    let mut heap = Heap::default();
    let error = read(&mut text.as_bytes(), &mut heap).unwrap_err();
    assert!(matches!(error, SeriesError::NotAMatrix(_)), "{error}");
    assert_eq!(heap.rows.len(), 1);
}

#[test]
fn labels_after_the_samples_and_values_of_other_kinds_are_understood() {
    let text = r#"{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,5],[2,null],[3,"6"]],
        "metric":{"pid":"7"}},{"values":[[1,"1"]]}]}}"#;
    let heap = heap(text.as_bytes()).unwrap();
    assert_eq!((heap.rows.len(), heap.bad.len()), (3, 1));
    assert_eq!(heap.rows[0].name.pid, Some(Pid(7)));
    assert_eq!(heap.rows[2].name.comm, "{}");
}

#[test]
fn a_carriage_return_within_a_line_hides_nothing_of_it() {
    let heap = heap(b"at_s,pid,comm,anon_bytes\n1,7,a\rb,100\n2,7,x,2\r3,7,x,4\n3,7,x,200\r\n").unwrap();
    assert_eq!(heap.rows.iter().map(|row| row.memory.anon.0).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(heap.rows[0].name.comm, "a\rb");
    assert_eq!(heap.bad.iter().map(|bad| bad.place).collect::<Vec<_>>(), [Place::Line(3)]);
}

#[test]
fn a_first_line_that_is_too_long_is_no_empty_file_and_no_header() {
    let text = [&*vec![b'x'; 1 << 17], b"\nat_s,pid,comm,anon_bytes\n1,7,x,100\n"].concat();
    assert!(matches!(heap(&text), Err(SeriesError::Unknown)));
}

#[test]
fn a_query_is_written_so_that_nothing_in_it_is_taken_for_another_parameter() {
    let query = Query {
        server: "http://h:9090/".to_owned(),
        query: "a{b=\"c\"} + 1 & x".to_owned(),
        range: std::time::Duration::from_secs(6 * 3600),
        step: None,
        timeout: std::time::Duration::from_secs(1),
    };
    let url = query.url(jiff::Timestamp::from_second(1_764_000_000).unwrap());
    assert_eq!(
        url,
        "http://h:9090/api/v1/query_range?query=a%7Bb%3D%22c%22%7D%20%2B%201%20%26%20x&start=1763978400.000&end=1764000000.000&step=15"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_never_a_panic(bytes: Vec<u8>) {
        let _ = heap(&bytes);
    }

    #[test]
    fn any_lines_below_a_header_are_rows_or_bad_and_none_is_lost(lines in prop::collection::vec("[^\r\n]{0,60}", 0..20)) {
        let text = format!("at_s,pid,comm,anon_bytes\n{}", lines.join("\n"));
        let heap = heap(text.as_bytes()).unwrap();
        let full = lines.iter().filter(|line| !line.as_bytes().trim_ascii().is_empty()).count();
        prop_assert_eq!(heap.rows.len() + heap.bad.len(), full);
    }

    #[test]
    fn any_text_in_the_place_of_a_number_is_bad_or_a_possible_value(field in "[-+0-9.eExnaifNt]{0,12}") {
        let text = format!("at_s,pid,comm,anon_bytes\n1,7,x,{field}\n");
        let heap = heap(text.as_bytes()).unwrap();
        prop_assert!(heap.rows.iter().all(|row| row.memory.anon.0 <= 1 << 57));
    }
}
