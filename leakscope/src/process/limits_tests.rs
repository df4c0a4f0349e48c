//! Limits in trees of the tests' own making, and in a real cgroup.

use std::process::{Command, Stdio};

use super::*;
use crate::process::testing::FakeProc;

const MB: u64 = 1_000_000;
const HOST: Host = Host { size: Bytes(8000 * MB), available: Bytes(5000 * MB), swap_free: Bytes::ZERO };

/// A tree with a cgroup mount of each kind at `v1` and `v2`, mounted at `root`.
fn tree(root: &str) -> FakeProc {
    let fake = FakeProc::new();
    let line = |id: u32, name: &str, kind: &str, options: &str| {
        format!(
            "{id} 1 0:{id} {root} {} rw shared:9 - {kind} {kind} rw{options}\n",
            fake.path(name).display()
        )
    };
    let text = line(30, "v1", "cgroup", ",memory")
        + &line(31, "v1cpu", "cgroup", ",cpu")
        + &line(32, "v2", "cgroup2", "")
        + "not a mount\n";
    fake.write("self/mountinfo", text);
    fake
}

fn v2(fake: &FakeProc, path: &str, files: &[(&str, &str)]) {
    fake.write(
        &format!("v2/{path}/memory.stat"),
        "anon 5\ninactive_file 20000000\nactive_file 10000000\nshmem 9\n",
    );
    for (name, content) in files {
        fake.write(&format!("v2/{path}/memory.{name}"), content);
    }
}

fn v1(fake: &FakeProc, path: &str, limit: u64, usage: u64) {
    let stat = "inactive_file 1\ntotal_inactive_file 20000000\ntotal_active_file 10000000\n";
    fake.write(&format!("v1/{path}/memory.stat"), stat);
    fake.write(&format!("v1/{path}/memory.limit_in_bytes"), limit.to_string());
    fake.write(&format!("v1/{path}/memory.usage_in_bytes"), usage.to_string());
}

/// Every limit above a place, the innermost first and the host's last: size and what is left in MB.
fn rooms(fake: &FakeProc, cgroups: &str, host: &Host) -> Vec<(Limit, u64, u64)> {
    let mut limits = Limits::discover(&fake.root()).unwrap();
    let mut rooms = limits.rooms_in(&Membership::parse(cgroups.as_bytes()), host);
    rooms.push(host.room());
    rooms.into_iter().map(|room| (room.limit, room.size.0 / MB, room.left.0 / MB)).collect()
}

/// The one of them that leaves the least.
fn room(fake: &FakeProc, cgroups: &str, host: &Host) -> (Limit, u64, u64) {
    rooms(fake, cgroups, host).into_iter().min_by_key(|(.., left)| *left).unwrap()
}

fn cgroup(path: &str) -> Limit {
    Limit::Cgroup(path.to_owned())
}

#[test]
fn without_a_cgroup_limit_the_host_is_the_limit() {
    let fake = tree("/");
    assert_eq!(room(&fake, "0::/\n", &HOST), (Limit::Host, 8000, 5000));
    v2(&fake, "a", &[("max", "max\n"), ("high", "max\n"), ("current", "100000000\n")]);
    let swap = Host { swap_free: Bytes(1000 * MB), ..HOST };
    assert_eq!(room(&fake, "0::/a\n", &swap), (Limit::Host, 8000, 6000));
}

#[test]
fn the_tightest_of_all_cgroups_above_counts_and_page_cache_is_free() {
    let fake = tree("/");
    v2(&fake, "a", &[("max", "500000000"), ("current", "400000000")]);
    v2(&fake, "a/b", &[("max", "900000000"), ("current", "100000000")]);
    assert_eq!(room(&fake, "0::/a/b\n", &HOST), (cgroup("/a"), 500, 130));
    v2(&fake, "a/b", &[("max", "200000000"), ("current", "100000000")]);
    assert_eq!(room(&fake, "0::/a/b\n", &HOST), (cgroup("/a/b"), 200, 130), "of equals the inner");
    v2(&fake, "a/b", &[("max", "199000000"), ("current", "100000000")]);
    assert_eq!(room(&fake, "0::/a/b\n", &HOST), (cgroup("/a/b"), 199, 129));
}

#[test]
fn every_limit_above_is_told_from_the_innermost_outwards_whatever_it_leaves() {
    let fake = tree("/");
    v2(&fake, "", &[]);
    v2(&fake, "pods", &[("max", "2000000000"), ("current", "900000000")]);
    v2(&fake, "pods/a", &[("max", "max"), ("current", "100000000")]);
    v2(&fake, "pods/a/b", &[("max", "200000000"), ("current", "100000000")]);
    let all = rooms(&fake, "0::/pods/a/b\n", &HOST);
    assert_eq!(
        all,
        [(cgroup("/pods/a/b"), 200, 130), (cgroup("/pods"), 2000, 1130), (Limit::Host, 8000, 5000)]
    );
}

#[test]
fn of_more_limits_than_are_told_the_innermost_are() {
    let fake = tree("/");
    let mut path = "c".to_owned();
    for level in 0..MAX_LEVELS + 5 {
        v2(&fake, &path, &[("max", &(1000 * MB + level as u64 * MB).to_string()), ("current", "30000000")]);
        path += "/c";
    }
    let all = rooms(&fake, &format!("0::/{}\n", path.strip_suffix("/c").unwrap()), &HOST);
    assert_eq!(all.len(), MAX_LEVELS + 1);
    assert_eq!(all[0].1, 1000 + MAX_LEVELS as u64 + 4);
}

#[test]
fn memory_high_is_a_limit_as_well() {
    let fake = tree("/");
    v2(&fake, "a", &[("max", "500000000"), ("high", "450000000"), ("current", "430000000")]);
    assert_eq!(room(&fake, "0::/a\n", &HOST), (cgroup("/a"), 450, 50));
}

#[test]
fn swap_that_a_cgroup_may_still_use_is_room() {
    let fake = tree("/");
    let host = Host { swap_free: Bytes(60 * MB), ..HOST };
    for (max, current, left) in
        [("max", "0", 190), ("0", "0", 130), ("50000000", "10000000", 170), ("500000000", "0", 190)]
    {
        v2(
            &fake,
            "a",
            &[("max", "500000000"), ("current", "400000000"), ("swap.max", max), ("swap.current", current)],
        );
        assert_eq!(room(&fake, "0::/a\n", &host).2, left, "swap.max {max}");
    }
}

#[test]
fn a_cgroup_over_its_limit_has_no_room() {
    let fake = tree("/");
    v2(&fake, "a", &[("max", "100000000"), ("current", "400000000")]);
    assert_eq!(room(&fake, "0::/a\n", &HOST), (cgroup("/a"), 100, 0));
}

#[test]
fn version_1_limits_count_with_the_totals_of_the_hierarchy() {
    let fake = tree("/");
    v1(&fake, "", 9_223_372_036_854_771_712, 2000 * MB);
    v1(&fake, "docker", 9_223_372_036_854_771_712, 900 * MB);
    v1(&fake, "docker/x", 500 * MB, 400 * MB);
    let cgroups = "4:memory:/docker/x\n1:cpu:/\n0::/\n";
    assert_eq!(room(&fake, cgroups, &HOST), (cgroup("/docker/x"), 500, 130));
    let host = Host { swap_free: Bytes(1000 * MB), ..HOST };
    assert_eq!(room(&fake, cgroups, &host).2, 1130);
    fake.write("v1/docker/x/memory.memsw.limit_in_bytes", "520000000");
    fake.write("v1/docker/x/memory.memsw.usage_in_bytes", "400000000");
    assert_eq!(room(&fake, cgroups, &host), (cgroup("/docker/x"), 520, 150), "memory and swap together");
}

#[test]
fn a_version_1_cgroup_that_does_not_count_its_children_does_not_limit_them() {
    let fake = tree("/");
    v1(&fake, "a", 500 * MB, 400 * MB);
    v1(&fake, "a/b", 600 * MB, 100 * MB);
    assert_eq!(room(&fake, "4:memory:/a/b\n", &HOST).0, cgroup("/a"));
    fake.write("v1/a/memory.use_hierarchy", "0\n");
    assert_eq!(room(&fake, "4:memory:/a/b\n", &HOST).0, cgroup("/a/b"));
}

#[test]
fn on_a_hybrid_host_the_hierarchy_that_has_the_memory_controller_counts() {
    let fake = tree("/");
    v1(&fake, "a", 500 * MB, 400 * MB);
    v2(&fake, "s", &[("max", "1"), ("current", "1")]);
    assert_eq!(room(&fake, "4:memory:/a\n0::/s\n", &HOST).0, cgroup("/a"));
    assert_eq!(room(&fake, "1:cpu:/\n0::/s\n", &HOST).0, cgroup("/s"));
}

#[test]
fn a_container_without_a_cgroup_namespace_finds_its_own_cgroup_mounted() {
    let fake = tree("/docker/x");
    v1(&fake, "", 500 * MB, 400 * MB);
    v1(&fake, "sub", 900 * MB, 100 * MB);
    assert_eq!(room(&fake, "4:memory:/docker/x\n", &HOST), (cgroup("/docker/x"), 500, 130));
    assert_eq!(room(&fake, "4:memory:/docker/x/sub\n", &HOST), (cgroup("/docker/x"), 500, 130));
}

#[test]
fn a_cgroup_that_cannot_be_reached_from_here_leaves_the_host_as_the_limit() {
    let fake = tree("/docker/x");
    v1(&fake, "", 1, 1);
    v2(&fake, "", &[("max", "1"), ("current", "1")]);
    for cgroups in
        ["4:memory:/docker/y\n", "0::/../../elsewhere\n", "0::/docker/x/../y\n", "0::/docker/x/gone\n"]
    {
        assert_eq!(room(&fake, cgroups, &HOST).0, Limit::Host, "{cgroups}");
    }
}

#[test]
fn a_cgroup_is_read_once_in_a_round() {
    let fake = tree("/");
    v2(&fake, "a", &[("max", "500000000"), ("current", "400000000")]);
    let membership = Membership::parse(b"0::/a\n");
    let mut limits = Limits::discover(&fake.root()).unwrap();
    let before = limits.rooms_in(&membership, &HOST);
    v2(&fake, "a", &[("current", "450000000")]);
    assert_eq!(limits.rooms_in(&membership, &HOST), before);
    limits.new_round();
    assert_eq!(limits.rooms_in(&membership, &HOST)[0].left, Bytes(80 * MB));
    let directory = limits.directory(&membership).unwrap();
    assert_eq!(Limits::usage(&directory), Some(Bytes(450 * MB)));
}

#[test]
fn pressure_is_that_of_the_own_version_2_cgroup_and_never_of_the_root() {
    let fake = tree("/");
    fake.write("v2/memory.pressure", "");
    fake.write("v2/a/cgroup.type", "domain\n");
    v1(&fake, "a", 500 * MB, 400 * MB);
    let limits = Limits::discover(&fake.root()).unwrap();
    let of = |cgroups: &str| limits.unified(&Membership::parse(cgroups.as_bytes()));
    assert_eq!(of("4:memory:/a\n0::/a\n"), Some(fake.path("v2/a")));
    assert_eq!(of("4:memory:/a\n0::/\n"), None);
    assert_eq!(of("0::/gone\n"), None);
}

/// A process in a cgroup of its own, both gone when this is dropped.
struct Limited {
    child: std::process::Child,
    directory: PathBuf,
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir(&self.directory);
    }
}

#[test]
fn a_limit_of_a_real_cgroup_is_found_above_a_real_process() {
    let proc = ProcRoot::default();
    let mut limits = Limits::discover(&proc).unwrap();
    let own = proc.membership(Pid(std::process::id())).unwrap();
    let parent = limits.directory(&own).filter(|directory| directory.join("memory.limit_in_bytes").exists());
    let Some(parent) = parent.filter(|_| rustix::process::geteuid().is_root()) else {
        eprintln!("not run: it needs root and a v1 memory hierarchy");
        return;
    };
    let directory = parent.join(format!("leakscope-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    let limited = Limited { child, directory };
    std::fs::write(limited.directory.join("memory.limit_in_bytes"), "67108864").unwrap();
    std::fs::write(limited.directory.join("cgroup.procs"), limited.child.id().to_string()).unwrap();
    let room = limits.rooms(&proc, Pid(limited.child.id()), &HOST).unwrap().swap_remove(0);
    let path = proc.membership(Pid(limited.child.id())).unwrap().memory.unwrap();
    assert!(path.ends_with(limited.directory.file_name().unwrap().to_str().unwrap()));
    assert_eq!((room.limit, room.size), (Limit::Cgroup(path), Bytes(67_108_864)));
    assert!(room.left > Bytes::ZERO && room.left <= room.size, "{:?}", room.left);
}
