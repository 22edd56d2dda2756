//! Which layers of an image an engine has already.
//!
//! An engine says of each of its images which layers it has; it does not say which layers it has. So images are asked
//! after: those that have the names first, then the others, the newest first, as long as much is still to be sent.
//!
//! | engine                        | what may be left out                    | how it looks a layer up            |
//! |-------------------------------|-----------------------------------------|------------------------------------|
//! | Docker, with a graph driver   | blobs of the layers below               | by chain id, before it opens a file |
//! | Docker, with containerd's store | nothing: a missing blob is no error there, the image is incomplete | |
//! | Podman                        | blobs of the layers below, in an OCI archive | by digest, before it opens a file |

use serde_json::Value;

use crate::digest::DiffId;

/// Below this it is quicker to send than to ask.
const WORTH_ASKING_BYTES: u64 = 256 << 10;
/// How many images are asked after.
const MOST_IMAGES: usize = 64;

/// What listens at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    /// Docker, images kept by containerd.
    Containerd,
    Podman,
}

/// Returns what answers `/version` and `/info` so.
pub(super) fn kind(version: &Value, info: &Value) -> Kind {
    let parts = version["Components"].as_array().into_iter().flatten();
    let mut names = parts.filter_map(|it| it["Name"].as_str());
    if names.any(|it| it.starts_with("Podman")) {
        return Kind::Podman;
    }
    let status = info["DriverStatus"].as_array().into_iter().flatten();
    let mut words = status.filter_map(|pair| pair[1].as_str());
    match words.any(|it| it.starts_with("io.containerd.")) {
        true => Kind::Containerd,
        false => Kind::Docker,
    }
}

/// Returns the paths to ask under, in order, of images that have the names and of those that `list` has.
pub(super) fn questions(names: &[String], list: &Value) -> Vec<String> {
    let ids = list.as_array().into_iter().flatten();
    let ids = ids.filter_map(|it| it["Id"].as_str()).map(str::to_owned);
    let all = names.iter().cloned().chain(ids.take(MOST_IMAGES));
    all.map(|it| format!("/images/{it}/json")).collect()
}

/// Asks as long as it pays; returns how many layers, from the base on, the engine has.
pub(super) fn held<E>(
    layers: &[(DiffId, u64)],
    questions: Vec<String>,
    mut ask: impl FnMut(&str) -> Result<Value, E>,
) -> Result<usize, E> {
    let mut most = 0;
    for question in questions {
        let left: u64 = layers[most..].iter().map(|(_, size)| size).sum();
        if left < WORTH_ASKING_BYTES {
            break;
        }
        let image = ask(&question)?;
        most = most.max(shared(layers, &image["RootFS"]["Layers"]));
    }
    Ok(most)
}

/// Returns how many layers are the same, from the base on.
fn shared(ours: &[(DiffId, u64)], theirs: &Value) -> usize {
    let theirs = theirs.as_array().into_iter().flatten();
    let theirs = theirs.map(|it| it.as_str().unwrap_or_default());
    ours.iter()
        .zip(theirs)
        .take_while(|((ours, _), theirs)| ours.0.to_string() == *theirs)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use serde_json::json;

    #[test]
    fn kinds() {
        let podman = json!({"Components": [{"Name": "Podman Engine"}]});
        let docker = json!({"Components": [{"Name": "Engine"}, {"Name": "containerd"}]});
        let classic = json!({"DriverStatus": [["Backing Filesystem", "extfs"]]});
        let containerd = json!({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]});
        for (version, info, expected) in [
            (&podman, &classic, Kind::Podman),
            (&docker, &classic, Kind::Docker),
            (&docker, &containerd, Kind::Containerd),
            (&Value::Null, &json!({"DriverStatus": null}), Kind::Docker),
        ] {
            assert_eq!(kind(version, info), expected, "{version} {info}");
        }
    }

    #[test]
    fn images_are_asked_after_while_it_pays() {
        let layer = |n: u8| DiffId(Digest::of(&[n]));
        let shown = |numbers: &[u8]| {
            let layers: Vec<String> = numbers.iter().map(|&n| layer(n).0.to_string()).collect();
            json!({"RootFS": {"Layers": layers}})
        };
        let ours = [(layer(1), 9 << 20), (layer(2), 9 << 20), (layer(3), 10)];
        for (there, held_layers, asked) in [
            (vec![], 0, 0),
            (vec![shown(&[7, 2, 3])], 0, 1),
            (
                vec![shown(&[1, 9]), shown(&[1, 2]), shown(&[1, 2, 3])],
                2,
                2,
            ),
            (vec![Value::Null, shown(&[1]), shown(&[])], 1, 3),
            (vec![shown(&[1, 2, 3, 4])], 3, 1),
        ] {
            let list: Value = there
                .iter()
                .enumerate()
                .map(|(n, _)| json!({"Id": n.to_string()}))
                .collect();
            let mut count = 0;
            let ask = |path: &str| {
                count += 1;
                let n = path
                    .split('/')
                    .nth(2)
                    .and_then(|it| it.parse::<usize>().ok());
                Ok::<_, ()>(there[n.expect("a number")].clone())
            };
            let found = held(&ours, questions(&[], &list), ask);
            assert_eq!((found, count), (Ok(held_layers), asked), "{there:?}");
        }
        let list = json!([{"Id": "sha256:a"}]);
        let expected = ["/images/a:1/json", "/images/sha256:a/json"];
        assert_eq!(questions(&["a:1".to_owned()], &list), expected);
    }
}
