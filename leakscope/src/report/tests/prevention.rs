//! Prevention is made for the case: the owner's kind of limit, the runtime's own bound, an alert with its name.

use std::time::Duration;

use super::fixtures::*;
use crate::report::*;
use crate::units::Bytes;

/// Prevention of the lab's leak, changed.
fn prevention(change: impl FnOnce(&mut Suspect)) -> String {
    let mut incident = procfs_observed();
    incident.hunt.suspects[0].cadence =
        Some(Cadence { period: Duration::from_millis(200), bytes: Some(Bytes(10_000)) });
    incident.stories[0].steady = Some(Bytes(500_000_000));
    change(&mut incident.hunt.suspects[0]);
    let text = incident.render(ReportFormat::Text).unwrap();
    text[text.find("\nPrevention\n").unwrap()..].split_whitespace().collect::<Vec<_>>().join(" ")
}

fn runs(suspect: &mut Suspect, words: &[&str]) {
    suspect.exe = Some(words[0].to_owned());
    suspect.comm = words[0].rsplit('/').next().unwrap().to_owned();
    suspect.cmdline = words.iter().map(ToString::to_string).collect();
}

#[test]
fn each_runtime_has_its_own_bound_below_the_limit() {
    // Twice 500 MB in steps of 32 MiB is 960 MiB; three quarters of that is 720.
    let java = prevention(|suspect| runs(suspect, &["/opt/jdk/bin/java", "-jar", "/srv/shop.jar"]));
    for words in
        ["java -Xmx720m -XX:+HeapDumpOnOutOfMemoryError", "jcmd 4242 GC.heap_dump", "an entry for shop.jar"]
    {
        assert!(java.contains(words), "{words}: {java}");
    }
    let bounded = prevention(|suspect| runs(suspect, &["java", "-Xmx2g", "-cp", "a.jar", "Main"]));
    assert!(bounded.contains("Its heap has a bound (-Xmx2g)") && !bounded.contains("-Xmx720m"), "{bounded}");
    let node = prevention(|suspect| runs(suspect, &["node", "server.js"]));
    assert!(node.contains("node --max-old-space-size=720 --heapsnapshot-near-heap-limit=2"), "{node}");
    let redis = prevention(|suspect| runs(suspect, &["/usr/bin/redis-server", "*:6379"]));
    assert!(redis.contains("redis-cli CONFIG SET maxmemory 720mb"), "{redis}");
    let other = prevention(|suspect| runs(suspect, &["/usr/sbin/daemon", "--port=1"]));
    assert!(other.contains("perf record -e page-faults --call-graph dwarf -p 4242"), "{other}");
    for absent in ["tracemalloc", "redis-cli", "jcmd", "lru_cache", "process_names"] {
        assert!(!other.contains(absent), "{absent}: {other}");
    }
}

#[test]
fn a_bound_for_a_python_collection_needs_both_python_and_one_entry_size() {
    let both = prevention(|_| ());
    let said = "a time to live of 10 min would hold about 3000 entries, 30.0 MB (estimate)";
    assert!(both.contains("cachetools.TTLCache") && both.contains(said), "{both}");
    let no_size = prevention(|suspect| suspect.cadence.as_mut().unwrap().bytes = None);
    let no_python = prevention(|suspect| runs(suspect, &["/usr/sbin/cache-daemon"]));
    for without in [no_size, no_python] {
        assert!(!without.contains("TTLCache") && without.contains("Give the cache a bound"), "{without}");
    }
    let neither = prevention(|suspect| runs(suspect, &["/usr/sbin/daemon"]));
    assert!(!neither.contains("a bound:") && !neither.contains("collection"), "{neither}");
}

#[test]
fn each_owner_has_its_own_kind_of_limit() {
    let unit = prevention(|suspect| suspect.owner.unit = Some("shop.service".to_owned()));
    assert!(unit.contains("systemctl set-property shop.service MemoryHigh=720M MemoryMax=960M"), "{unit}");
    assert!(unit.contains("[Service] MemoryHigh=720M MemoryMax=960M"), "{unit}");
    let container = |cgroup: &str| {
        prevention(|suspect| {
            suspect.owner.container = Some("ab12".repeat(16));
            suspect.owner.cgroup = Some(cgroup.to_owned());
        })
    };
    let docker = container("/docker/1");
    assert!(docker.contains("docker update --memory=960m --memory-swap=960m ab12ab12ab12"), "{docker}");
    let pod = container("/kubepods/burstable/pod1");
    assert!(pod.contains("resources.limits.memory") && pod.contains("limits: memory: 960Mi"), "{pod}");
    assert!(!pod.contains("docker"), "{pod}");
}

#[test]
fn the_alert_has_the_name_and_half_the_rate_and_comes_in_time() {
    let usual = prevention(|_| ());
    let rule =
        "deriv(namedprocess_namegroup_memory_bytes{groupname=\"python3\",memtype=\"resident\"}[10m]) > 25600";
    assert!(usual.contains(rule) && usual.contains("for: 10m"), "{usual}");
    assert!(usual.contains("an entry for cache_service.py in the exporter's process_names"), "{usual}");
    let near = prevention(|suspect| suspect.oom.as_mut().unwrap().low = Duration::from_secs(12 * 60));
    assert!(near.contains("[3m]) > 25600") && near.contains("for: 3m"), "{near}");
}
