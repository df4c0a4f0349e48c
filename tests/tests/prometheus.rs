//! `analyze --prometheus`: on a real Prometheus that scrapes a real exporter, and on servers that misbehave.
//!
//! Prometheus and the exporter are the distribution's packages: on the PATH, or where `cargo xtask setup` unpacked them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use leakscope_tests::command::{Ran, Workload, folder, leakscope, pause, run, wait_until};
use serde_json::Value;

/// Keeps 102,490 bytes a second (10 strings of 10,200 bytes and their head of 49), to the clock and not to the length of its pauses.
const LEAK: &str = "import time\nkept = []\ndue = time.monotonic()\nwhile True:\n    kept.append('x' * 10200)\n    \
                    due += 0.1\n    time.sleep(max(0, due - time.monotonic()))\n";
const RATE: f64 = 10.0 * 10_249.0;
const QUIET: &str = "import time\nwhile True:\n    time.sleep(0.2)\n";

/// A program of a package that the set-up unpacked, or of the PATH.
fn program(name: &str) -> PathBuf {
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/prometheus/usr/bin").join(name);
    if unpacked.exists() { unpacked } else { name.into() }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn start(name: &str, arguments: &[String]) -> Workload {
    let folder = folder();
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(folder.path());
    Workload::start(command, folder)
}

/// What a GET of `path` answers, head and all; empty where nobody does.
fn get(port: u16, path: &str) -> String {
    let mut text = String::new();
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return text };
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    if asked.is_ok() {
        let _ = stream.read_to_string(&mut text);
    }
    text
}

/// An exporter that watches the processes whose command lines have `mark` and a word in them, in groups by that word.
fn exporter(mark: &str) -> (Workload, u16) {
    let port = free_port();
    let names = folder();
    let config = names.path().join("names.yml");
    let text = format!(
        "process_names:\n  - name: '{{{{.Matches.Which}}}}'\n    cmdline:\n    - '(?P<Which>leaky|quiet)-{mark}[.]py'\n"
    );
    fs::write(&config, text).expect("the configuration is written");
    let listen = format!("-web.listen-address=127.0.0.1:{port}");
    let config = format!("-config.path={}", config.display());
    let words = [listen, config, "-threads=false".to_owned(), "-gather-smaps=false".to_owned()];
    let exporter = start("prometheus-process-exporter", &words);
    wait_until("the exporter answers", || {
        get(port, "/metrics").contains("namedprocess_namegroup_memory_bytes")
    });
    (exporter, port)
}

/// A Prometheus that scrapes the exporter each second.
fn prometheus(exporter: u16) -> (Workload, u16) {
    let port = free_port();
    let folder = folder();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: processes\n    static_configs:\n    - \
         targets: ['127.0.0.1:{exporter}']\n"
    );
    fs::write(&config, text).expect("the configuration is written");
    let mut command = Command::new(program("prometheus"));
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=error");
    let server = Workload::start(command, folder);
    wait_until("Prometheus is ready", || get(port, "/-/ready").starts_with("HTTP/1.1 200"));
    (server, port)
}

#[test]
fn a_real_prometheus_that_scrapes_a_real_exporter_shows_which_process_leaks_and_how_fast() {
    let mark = std::process::id().to_string();
    let _leaky = Workload::python(&format!("leaky-{mark}.py"), LEAK);
    let _quiet = Workload::python(&format!("quiet-{mark}.py"), QUIET);
    let (_exporter, exporter_port) = exporter(&mark);
    let (_server, port) = prometheus(exporter_port);
    // What the interpreters took to start is no part of what is asked for.
    pause(Duration::from_secs(60));
    let url = format!("http://127.0.0.1:{port}/");
    let query = "namedprocess_namegroup_memory_bytes{memtype=\"resident\"}";
    let ran = run(&[
        "analyze",
        "--json",
        "--prometheus",
        &url,
        "--query",
        query,
        "--range",
        "55s",
        "--step",
        "1s",
        "--confirm",
        "15s",
    ]);
    assert_eq!(ran.code(), 1, "{}\n{}", ran.stdout, ran.stderr);
    let json = ran.json();
    let series = json["series"].as_array().expect("series");
    let of = |group: &str| {
        let named = |series: &&Value| {
            series["comm"].as_str().is_some_and(|comm| comm.contains(&format!("groupname=\"{group}\"")))
        };
        series.iter().find(named).unwrap_or_else(|| panic!("no {group}: {json:#}"))
    };
    assert_eq!(series.len(), 2, "{json:#}");
    let (leaky, quiet) = (of("leaky"), of("quiet"));
    assert_eq!((&leaky["verdict"], &leaky["confirmed"]), (&"leaking".into(), &true.into()), "{leaky:#}");
    let rate = leaky["rate_bytes_per_s"].as_f64().expect("a rate");
    assert!((rate / RATE - 1.0).abs() < 0.15, "{rate} instead of {RATE}: {leaky:#}");
    assert!(leaky["samples"].as_u64().is_some_and(|samples| samples >= 50), "{leaky:#}");
    assert_eq!((&quiet["verdict"], &quiet["confirmed"]), (&"steady".into(), &false.into()), "{quiet:#}");

    // The address alone asks for what the exporter, as every client library does, says of itself.
    let alone = run(&["analyze", "--json", "--prometheus", &url]);
    assert_ne!(alone.code(), 2, "{}", alone.stderr);
    assert!(alone.stderr.contains("asking for process_resident_memory_bytes"), "{}", alone.stderr);
    let comm = alone.json()["series"][0]["comm"].to_string();
    assert!(comm.contains("process_resident_memory_bytes{"), "{comm}");
    let wrong = run(&["analyze", "--json", "--prometheus", &url, "--query", "sum(("]);
    assert_eq!(wrong.code(), 2);
    assert!(wrong.stderr.contains("400") && wrong.stderr.contains("parse error"), "{}", wrong.stderr);
}

/// Answers one request with `status` and `body`; the first line of the request.
fn server(status: &'static str, body: String) -> (String, std::thread::JoinHandle<String>) {
    serve(move |stream| {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    })
}

/// Lets `answer` answer one request; the first line of the request.
fn serve(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
        let asked = lines.next().unwrap_or_default();
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        answer(&mut stream);
        asked
    });
    (url, thread)
}

fn ask(url: &str) -> Ran {
    run(&["analyze", "--json", "--prometheus", url, "--query", "rss{job=\"a b\"}", "--range", "1h"])
}

#[test]
fn prometheus_is_asked_for_a_range_and_its_answer_is_judged() {
    let values: Vec<Value> = (0..240)
        .map(|sample| {
            let (at, bytes) = (1_764_000_000 + sample * 15, 100_000_000 + sample * 15 * 51_200);
            if sample == 7 {
                serde_json::json!([at, "NaN"])
            } else {
                serde_json::json!([at, bytes.to_string()])
            }
        })
        .collect();
    let series = serde_json::json!({"metric": {"__name__": "rss", "job": "a b"}, "values": values});
    let data = serde_json::json!({"resultType": "matrix", "result": [series]});
    let answer = serde_json::json!({"status": "success", "data": data});
    let (url, asked) = server("200 OK", answer.to_string());
    let ran = ask(&url);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("GET /api/v1/query_range?query=rss%7Bjob%3D%22a%20b%22%7D&start="), "{asked}");
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    let json = ran.json();
    let series = &json["series"][0];
    assert_eq!((&series["comm"], &series["samples"]), (&"rss{job=\"a b\"}".into(), &239.into()), "{json:#}");
    let rate = series["rate_bytes_per_s"].as_f64().unwrap();
    assert!((rate / 51_200.0 - 1.0).abs() < 0.05, "{series:#}");
    assert!(ran.stderr.contains("sample 8 of series 1"), "{}", ran.stderr);
}

#[test]
fn a_server_that_fails_is_an_error_with_the_address_and_its_answer() {
    let nobody = ask("http://127.0.0.1:1");
    assert_eq!(nobody.code(), 2);
    assert!(nobody.stderr.contains("http://127.0.0.1:1/api/v1/query_range"), "{}", nobody.stderr);
    let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    for (status, body, shown) in [
        ("400 Bad Request", r#"{"status":"error","error":"parse error at char 3"}"#, "parse error at char 3"),
        ("503 Service Unavailable", "starting up", "starting up"),
        ("200 OK", "<html>a proxy's page</html>", "a proxy's page"),
        ("200 OK", empty, "no sample"),
    ] {
        let (url, asked) = server(status, body.to_owned());
        let ran = ask(&url);
        asked.join().unwrap();
        assert_eq!(ran.code(), 2, "{status}: {}", ran.stderr);
        assert!(ran.stderr.contains(&url) && ran.stderr.contains(shown), "{status}: {}", ran.stderr);
    }
    assert_eq!(ask("https://127.0.0.1:1").code(), 2);
}

#[test]
fn the_address_alone_asks_for_what_every_client_library_exports() {
    let (url, asked) =
        server("200 OK", r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned());
    let ran = run(&["analyze", "--prometheus", &url]);
    assert_eq!(ran.code(), 2, "an answer without a sample: {}", ran.stderr);
    let asked = asked.join().unwrap();
    assert!(asked.contains("query=process%5Fresident%5Fmemory%5Fbytes&"), "{asked}");
}

#[test]
fn a_server_that_is_slow_is_waited_for_no_longer_than_told_and_what_it_said_is_judged() {
    let (url, thread) = serve(|stream| {
        // Until the client is tired of it, whatever it does then.
        let _ = stream.read(&mut [0; 1]);
    });
    let silent = run(&["analyze", "--prometheus", &url, "--timeout", "500ms"]);
    assert_eq!(silent.code(), 2);
    assert!(silent.stderr.contains(&url) && silent.stderr.contains("--timeout"), "{}", silent.stderr);
    thread.join().unwrap();

    let (url, thread) = serve(|stream| {
        let values: Vec<String> =
            (0..100).map(|at| format!("[{at},\"{}\"]", 1_000_000 + at * 51_200)).collect();
        let head =
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"job":"x"},"values":["#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{head}{}", values.join(","));
        let _ = stream.read(&mut [0; 1]);
    });
    let half = run(&["analyze", "--json", "--prometheus", &url, "--timeout", "1s"]);
    assert_eq!(half.code(), 2, "the job was not done: {}", half.stderr);
    assert!(half.stderr.contains("not whole") && half.stderr.contains("--timeout"), "{}", half.stderr);
    assert!(
        half.json()["series"][0]["samples"].as_u64().is_some_and(|samples| samples >= 99),
        "{}",
        half.stdout
    );
    thread.join().unwrap();
}

#[test]
fn a_large_answer_takes_no_memory_to_speak_of_and_an_endless_word_is_refused() {
    // As a tree, 2.5 million samples take some 300 MB.
    let (url, thread) = serve(|stream| {
        let head =
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"job":"x"},"values":["#;
        let mut out = std::io::BufWriter::new(stream);
        let _ = write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{head}");
        for at in 0..2_500_000 {
            let _ = write!(out, "[{at},\"5000000\"],");
        }
        let _ = write!(out, "[2500000,\"5000000\"]]}}]}}}}");
    });
    let bounded = Command::new("sh")
        .args(["-c", "ulimit -v 200000 && exec \"$0\" \"$@\""])
        .arg(leakscope().get_program())
        .args(["analyze", "--json", "--prometheus", &url])
        .stdin(Stdio::null())
        .output()
        .expect("sh starts");
    let ran: Ran = bounded.into();
    thread.join().unwrap();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(ran.json()["series"][0]["samples"], 2_500_001);

    let (url, thread) = server("200 OK", format!("{{\"status\":\"{}", "x".repeat(1 << 20)));
    let endless = run(&["analyze", "--prometheus", &url]);
    let _ = thread.join();
    assert_eq!(endless.code(), 2);
    assert!(endless.stderr.contains("longer than 64 KiB"), "{}", endless.stderr);
}
