//! From a cgroup path to what a reader knows by name: the systemd unit and the container.
//!
//! Both are read from the path alone, innermost component first: inside a container that runs systemd, the unit is
//! the inner one and the container the outer one. The runtimes' naming is theirs to change; the table in the tests
//! says what is understood.

use super::cgroup::Membership;
use super::identity::Owner;

/// What may follow the last dot of a unit that processes run in. A slice is not among them: it groups units.
pub(super) const UNIT_KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl Owner {
    /// The owner as the cgroups tell it; the pid file is not theirs to know.
    pub fn from_membership(membership: &Membership) -> Self {
        Self {
            cgroup: membership.path().map(str::to_owned),
            unit: membership.paths().find_map(unit),
            container: membership.paths().find_map(container),
            pidfile: None,
        }
    }
}

/// The innermost systemd unit in a cgroup path, spelled as `systemctl` takes it (`\x2d` stays as it is). A login
/// session is no service, and `init.scope` is the manager itself: the user manager's own unit is then further out.
fn unit(path: &str) -> Option<String> {
    let units =
        path.rsplit('/').map(unescape).filter(|name| UNIT_KINDS.iter().any(|kind| name.ends_with(kind)));
    let mut init = None;
    for name in units {
        match name {
            "init.scope" => init = Some(name),
            _ if name.starts_with("session-") && name.ends_with(".scope") => return None,
            _ => return Some(name.to_owned()),
        }
    }
    init.map(str::to_owned)
}

/// systemd puts `_` before a name that the cgroup file system would take for one of its own.
fn unescape(component: &str) -> &str {
    component.strip_prefix('_').unwrap_or(component)
}

/// The innermost container in a cgroup path: a 64-digit id, or a name where the runtime has only names.
fn container(path: &str) -> Option<String> {
    let components: Vec<&str> = path.split('/').collect();
    (0..components.len()).rev().find_map(|index| {
        let outer = index.checked_sub(1).map(|outer| components[outer]);
        let component = components[index];
        // The monitor of a container runs beside it, not in it.
        if component.contains("-conmon-") || component.starts_with("lxc.monitor") {
            return None;
        }
        id(component).or_else(|| lxc(outer, component)).or_else(|| machine(component))
    })
}

/// `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `…slice:cri-containerd:<id>`, `libpod-<id>`.
fn id(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let last = name.rsplit(['-', ':']).next()?;
    let is_id = last.len() == 64 && last.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| last.to_owned())
}

/// `lxc.payload.NAME` (LXC 4 and LXD), `lxc.payload/NAME` and `lxc/NAME` (before).
fn lxc(outer: Option<&str>, component: &str) -> Option<String> {
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    (matches!(outer, Some("lxc" | "lxc.payload")) && !component.is_empty()).then(|| component.to_owned())
}

/// `machine-NAME.scope` and `systemd-nspawn@NAME.service`. libvirt's virtual machines are registered there as well,
/// and are no containers.
fn machine(component: &str) -> Option<String> {
    let name =
        component.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope")).or_else(|| {
            component.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"))
        })?;
    (!name.starts_with("qemu\\x2d")).then(|| name.replace("\\x2d", "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_unit_is_the_innermost_one_that_is_not_a_login_session() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/workers/1", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            (r"/system.slice/system-a\x2db.slice/a\x2db@1.service", Some(r"a\x2db@1.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", Some("app-x.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-7.scope",
                Some("app-firefox-7.scope"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("user@1000.service")),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/system.slice/_tasks.service", Some("tasks.service")),
            ("/system.slice", None),
            ("/init.scope", Some("init.scope")),
            ("/", None),
            ("/jobs/42", None),
        ] {
            assert_eq!(unit(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_container_is_told_by_each_runtimes_way_of_naming_cgroups() {
        for (path, expected) in [
            (format!("/docker/{ID}"), Some(ID)),
            (format!("/system.slice/docker-{ID}.scope"), Some(ID)),
            (format!("/system.slice/docker-{ID}.scope/system.slice/nginx.service"), Some(ID)),
            (format!("/kubepods/burstable/pod8f2c/{ID}"), Some(ID)),
            (format!("/kubepods.slice/kubepods-pod8f2c.slice/cri-containerd-{ID}.scope"), Some(ID)),
            (format!("/kubepods.slice/kubepods-pod8f2c.slice/crio-{ID}.scope/container"), Some(ID)),
            (
                format!("/system.slice/containerd.service/kubepods-pod8f2c.slice:cri-containerd:{ID}"),
                Some(ID),
            ),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"), Some(ID)),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), None),
            (format!("/lxc.payload.web/docker/{ID}"), Some(ID)),
            ("/lxc.payload.web/system.slice/nginx.service".to_owned(), Some("web")),
            ("/lxc/web/init.scope".to_owned(), Some("web")),
            ("/lxc.monitor.web".to_owned(), None),
            (r"/machine.slice/machine-my\x2dbox.scope/payload".to_owned(), Some("my-box")),
            ("/machine.slice/systemd-nspawn@box.service/payload".to_owned(), Some("box")),
            (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope".to_owned(), None),
            ("/system.slice/nginx.service".to_owned(), None),
            (format!("/jobs/{}", &ID[..63]), None),
            ("/".to_owned(), None),
        ] {
            assert_eq!(container(&path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_unit_is_found_in_systemds_own_hierarchy_where_v2_is_unused() {
        let text = b"9:name=systemd:/system.slice/a.service\n4:memory:/system.slice\n0::/\n";
        let owner = Owner::from_membership(&Membership::parse(text));
        assert_eq!(owner.unit.as_deref(), Some("a.service"));
        assert_eq!(owner.cgroup.as_deref(), Some("/system.slice"));
    }
}
