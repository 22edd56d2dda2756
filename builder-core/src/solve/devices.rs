//! `RUN --device`: what the Container Device Interface's specs of this machine say of a device, and what a step gets.
//!
//! | in a spec            | here                                                              |
//! |----------------------|-------------------------------------------------------------------|
//! | `env`                | set in the step                                                   |
//! | `deviceNodes`        | the host's own node, mounted: its mode and owner are the host's   |
//! | `mounts`             | mounted, with `ro`, `nosuid`, `noexec` and `nodev`                |
//! | `additionalGids`     | groups of the step                                                |
//! | `hooks`, all others  | refused by name: they are programs that would run as the builder  |
//!
//! Specs are JSON or YAML; a later directory wins over an earlier one.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SolveErrorKind;
use crate::sandbox::{self, MountSource};

/// Where the specs are, the one that wins last.
pub const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The annotation that puts devices of any vendor into a class.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecFile {
    #[serde(rename = "cdiVersion")]
    _version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
    devices: Vec<SpecDevice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<SpecMount>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
    hooks: Vec<IgnoredAny>,
    net_devices: Vec<IgnoredAny>,
    intel_rdt: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A device that a spec has.
#[derive(Debug)]
struct Known {
    classes: Vec<String>,
    /// The spec's own, then the device's.
    edits: [Edits; 2],
    /// Which of the directories has it, and how often.
    directory: usize,
    times: usize,
}

/// The devices of a machine, by their full names.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: BTreeMap<String, Known>,
    /// Specs that could not be read, and why.
    broken: Vec<String>,
}

impl Devices {
    /// Reads all specs of `directories`; those that are not there have none.
    pub(super) fn read(directories: &[PathBuf]) -> Devices {
        let mut devices = Devices::default();
        for (number, directory) in directories.iter().enumerate() {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                let extension = file.extension().and_then(|it| it.to_str());
                let json = match extension {
                    Some("json") => true,
                    Some("yaml" | "yml") => false,
                    _ => continue,
                };
                let text = std::fs::read_to_string(&file).map_err(|error| error.to_string());
                match text.and_then(|text| spec(&text, json)) {
                    Ok(spec) => devices.add(spec, number),
                    Err(why) => devices.broken.push(format!("{}: {why}", file.display())),
                }
            }
        }
        devices
    }

    fn add(&mut self, spec: SpecFile, directory: usize) {
        for device in spec.devices {
            let name = format!("{}={}", spec.kind, device.name);
            let class = |from: &BTreeMap<String, String>| from.get(CLASS).cloned();
            let times = match self.known.get(&name) {
                Some(known) if known.directory == directory => known.times + 1,
                _ => 1,
            };
            let classes = [class(&spec.annotations), class(&device.annotations)];
            let known = Known {
                classes: classes.into_iter().flatten().collect(),
                edits: [spec.container_edits.clone(), device.container_edits],
                directory,
                times,
            };
            self.known.insert(name, known);
        }
    }

    /// Returns the full names that a name in a Dockerfile stands for: itself, the first of a kind, all (`kind=*`), or
    /// all of a class.
    pub(super) fn find<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let (kind, device) = match name.split_once('=') {
            Some((kind, device)) => (kind, Some(device)),
            None => (name, None),
        };
        let of_kind = self
            .known
            .keys()
            .map(String::as_str)
            .filter(move |it| it.split_once('=').is_some_and(|(its, _)| its == kind));
        match device {
            _ if !kind.contains('/') => {
                let of_class = self.known.iter();
                let of_class =
                    of_class.filter(|(_, known)| known.classes.iter().any(|it| it == name));
                of_class.map(|(full, _)| full.as_str()).collect()
            }
            Some("*") => of_kind.collect(),
            Some(_) => of_kind.filter(|it| *it == name).collect(),
            None => of_kind.take(1).collect(),
        }
    }

    /// Says why a device is not known.
    pub(super) fn missing(&self, name: &str) -> SolveErrorKind {
        SolveErrorKind::MissingDevice {
            name: name.to_owned(),
            broken: self.broken.clone(),
        }
    }

    /// Gives a step what the device `full` brings; specs' own edits once for all their devices.
    pub(super) fn give(&self, full: &str, spec: &mut sandbox::Spec) -> Result<(), SolveErrorKind> {
        let failed = |reason: String| SolveErrorKind::Device {
            name: full.to_owned(),
            reason,
        };
        let Some(known) = self.known.get(full) else {
            return Err(self.missing(full));
        };
        if known.times > 1 {
            return Err(failed("two specs of one directory have it".to_owned()));
        }
        for edits in &known.edits {
            edits.give(spec).map_err(failed)?;
        }
        Ok(())
    }
}

fn spec(text: &str, json: bool) -> Result<SpecFile, String> {
    let spec: SpecFile = match json {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
    };
    match spec.kind.split_once('/') {
        Some((vendor, class)) if !vendor.is_empty() && !class.is_empty() => Ok(spec),
        _ => Err(format!("its kind `{}` is no vendor.com/class", spec.kind)),
    }
}

impl Edits {
    fn give(&self, spec: &mut sandbox::Spec) -> Result<(), String> {
        let Edits {
            env,
            device_nodes,
            mounts,
            additional_gids,
            hooks,
            net_devices,
            intel_rdt,
        } = self;
        for (is_there, what) in [
            (!hooks.is_empty(), "hooks"),
            (!net_devices.is_empty(), "netDevices"),
            (intel_rdt.is_some(), "intelRdt"),
        ] {
            if is_there {
                return Err(format!("its spec has `{what}`, which are not supported"));
            }
        }
        let mut add = |mount| {
            // of several devices with the same spec
            if !spec.mounts.contains(&mount) {
                spec.mounts.push(mount);
            }
        };
        for node in device_nodes {
            add(node.mount()?);
        }
        for mount in mounts {
            add(mount.mount()?);
        }
        for pair in env {
            let name = pair.split('=').next().unwrap_or_default();
            let prefix = format!("{name}=");
            spec.env
                .retain(|it| !it.as_encoded_bytes().starts_with(prefix.as_bytes()));
            spec.env.push(pair.into());
        }
        for gid in additional_gids.iter().filter(|gid| **gid != 0) {
            if !spec.user.groups.contains(gid) {
                spec.user.groups.push(*gid);
            }
        }
        Ok(())
    }
}

impl DeviceNode {
    fn mount(&self) -> Result<sandbox::Mount, String> {
        let source = self.host_path.as_ref().unwrap_or(&self.path);
        let shown = source.display();
        let metadata = std::fs::metadata(source).map_err(|error| format!("{shown}: {error}"))?;
        let kind = metadata.file_type();
        let kind = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => return Err(format!("{shown} is no device")),
        };
        let device = metadata.rdev();
        for (what, wanted, has) in [
            ("major", self.major, rustix::fs::major(device)),
            ("minor", self.minor, rustix::fs::minor(device)),
            (
                "fileMode",
                self.file_mode.map(|it| it & 0o7777),
                metadata.mode() & 0o7777,
            ),
            ("uid", self.uid, metadata.uid()),
            ("gid", self.gid, metadata.gid()),
        ] {
            if let Some(wanted) = wanted.filter(|it| *it != has) {
                return Err(format!(
                    "{shown} has the {what} {has}, its spec says {wanted}: steps get the host's node as it is"
                ));
            }
        }
        match self.kind.as_deref() {
            None => {}
            Some("u") if kind == "c" => {}
            Some(wanted) if wanted == kind => {}
            Some(wanted) => return Err(format!("{shown} is of type {kind}, not {wanted}")),
        }
        if let Some(permissions) = &self.permissions
            && !(permissions.contains('r') && permissions.contains('w'))
        {
            return Err(format!(
                "the permissions `{permissions}` of {shown} cannot be held here: rw can"
            ));
        }
        Ok(sandbox::Mount {
            target: self.path.clone(),
            source: MountSource::Host {
                path: source.clone(),
                no_suid: true,
                no_exec: true,
                no_devices: false,
            },
            read_only: false,
        })
    }
}

impl SpecMount {
    fn mount(&self) -> Result<sandbox::Mount, String> {
        let shown = self.host_path.display();
        if let Some(kind) = self
            .kind
            .as_deref()
            .filter(|it| !["", "bind", "none"].contains(it))
        {
            return Err(format!("a mount of type {kind} is not supported"));
        }
        if !Path::new(&self.host_path).exists() {
            return Err(format!("{shown}: no such file or directory"));
        }
        let has = |option: &str| self.options.iter().any(|it| it == option);
        // that it is a bind, and seen by the step alone, is so anyway
        const OPTIONS: &[&str] = &[
            "ro", "rw", "nosuid", "noexec", "nodev", "bind", "rbind", "private", "rprivate",
        ];
        let unknown = self
            .options
            .iter()
            .find(|it| !OPTIONS.contains(&it.as_str()));
        if let Some(option) = unknown {
            return Err(format!(
                "the option `{option}` of the mount of {shown} is not supported"
            ));
        }
        Ok(sandbox::Mount {
            target: self.container_path.clone(),
            source: MountSource::Host {
                path: self.host_path.clone(),
                no_suid: has("nosuid"),
                no_exec: has("noexec"),
                no_devices: true,
            },
            read_only: has("ro"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "\
cdiVersion: 0.6.0
kind: acme.com/gpu
containerEdits:
  env: [ACME=1]
devices:
  - name: b
    annotations: {org.mobyproject.buildkit.device.class: gpu}
    containerEdits:
      deviceNodes:
        - {path: /dev/acme, hostPath: /dev/null, type: c, permissions: rw}
      mounts:
        - {hostPath: /etc, containerPath: /acme, options: [ro, nosuid, nodev, rbind]}
  - name: a
";

    fn devices(files: &[(&str, &str)]) -> Devices {
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, text) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().expect("parent")).expect("mkdir");
            std::fs::write(file, text).expect("write");
        }
        Devices::read(&["no", "one", "two"].map(|name| dir.path().join(name)))
    }

    #[test]
    fn names() {
        let json = r#"{"cdiVersion":"0.5.0","kind":"other.org/gpu","devices":[{"name":"0"}]}"#;
        let devices = devices(&[
            ("one/a.yaml", YAML),
            ("two/b.json", json),
            ("two/c.txt", "x"),
        ]);
        assert_eq!(devices.broken, Vec::<String>::new());
        for (name, expected) in [
            ("acme.com/gpu=b", &["acme.com/gpu=b"][..]),
            ("acme.com/gpu=c", &[]),
            ("acme.com/gpu", &["acme.com/gpu=a"]),
            ("acme.com/gpu=*", &["acme.com/gpu=a", "acme.com/gpu=b"]),
            ("acme.com/gp", &[]),
            ("other.org/gpu", &["other.org/gpu=0"]),
            ("gpu", &["acme.com/gpu=b"]),
            ("net", &[]),
            ("", &[]),
        ] {
            assert_eq!(devices.find(name), expected, "{name}");
        }
    }

    fn empty() -> sandbox::Spec {
        sandbox::Spec {
            root: sandbox::Root::Directory("/r".into()),
            args: Vec::new(),
            env: vec!["ACME=0".into(), "ACMES=0".into()],
            cwd: "/".into(),
            user: sandbox::User::default(),
            hostname: String::new(),
            mounts: Vec::new(),
            network: sandbox::Network::None,
            security: sandbox::Security::Sandbox,
            limits: sandbox::Limits::default(),
            terminal: false,
            resolv_conf: Vec::new(),
            hosts: Vec::new(),
        }
    }

    #[test]
    fn what_a_step_gets() {
        let devices = devices(&[("one/a.yaml", YAML)]);
        let mut given = empty();
        for name in ["acme.com/gpu=b", "acme.com/gpu=b", "acme.com/gpu=a"] {
            devices.give(name, &mut given).expect(name);
        }
        assert_eq!(given.env, ["ACMES=0", "ACME=1"]);
        let targets: Vec<_> = given.mounts.iter().map(|it| it.target.as_path()).collect();
        assert_eq!(targets, ["/dev/acme", "/acme"].map(Path::new));
        assert!(given.mounts[1].read_only && !given.mounts[0].read_only);
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        let spec = |edits: &str| {
            format!(
                r#"{{"cdiVersion":"1","kind":"a.b/c","devices":[{{"name":"d","containerEdits":{{{edits}}}}}]}}"#
            )
        };
        let node = |more: &str| spec(&format!(r#""deviceNodes":[{{"path":"/dev/null"{more}}}]"#));
        for (text, expected) in [
            (spec(r#""hooks":[{"hookName":"x"}]"#), "`hooks`"),
            (spec(r#""intelRdt":{}"#), "`intelRdt`"),
            (node(r#","minor":7"#), "minor 3"),
            (node(r#","type":"b""#), "type c, not b"),
            (node(r#","permissions":"r""#), "permissions `r`"),
            (spec(r#""deviceNodes":[{"path":"/etc"}]"#), "no device"),
            (spec(r#""deviceNodes":[{"path":"/dev/gone"}]"#), "/dev/gone"),
            (
                spec(r#""mounts":[{"hostPath":"/etc","containerPath":"/x","options":["shared"]}]"#),
                "`shared`",
            ),
            (
                spec(r#""mounts":[{"hostPath":"/gone","containerPath":"/x"}]"#),
                "/gone",
            ),
        ] {
            let devices = devices(&[("one/a.json", &text)]);
            let known = devices.known.get("a.b/c=d").expect(&text);
            let mut given = empty();
            let done = known.edits.iter().try_for_each(|it| it.give(&mut given));
            let message = done.expect_err(&text);
            assert!(message.contains(expected), "{text}: {message}");
        }
        for text in [
            "{",
            r#"{"cdiVersion":"1","kind":"c","devices":[]}"#,
            &spec(r#""odd":1"#),
        ] {
            assert_eq!(devices(&[("one/a.json", text)]).broken.len(), 1, "{text}");
        }
    }
}
