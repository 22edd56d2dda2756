//! Uploads to a registry that takes them piece by piece at best.

use super::*;

const PLACE: &str = "/v2/a/b/blobs/uploads/7";
const LAYER_BYTES: u64 = 800_000;

/// What a registry does with an upload.
#[derive(Debug, Clone, Copy)]
struct Ways {
    /// What it takes with one request; more, and it fails.
    most: u64,
    /// Whether it forgets an upload when a request of it fails.
    forgets: bool,
}

/// Starts a registry that has nothing; pieces must come in order.
async fn registry(ways: Ways) -> Server {
    let had = Mutex::new(None::<u64>);
    Server::start(move |asked, _| {
        let mut had = had.lock().expect("state");
        let range = |at: u64| format!("0-{}", at.saturating_sub(1));
        let length = asked
            .header("content-length")
            .and_then(|it| it.parse().ok());
        let length: u64 = length.unwrap_or(0);
        let is_upload = asked.path.starts_with(PLACE);
        match (asked.method.as_str(), is_upload, *had) {
            ("GET", false, _) => Answer::new(200, ""),
            ("HEAD", ..) => Answer::new(404, ""),
            ("POST", ..) => {
                *had = Some(0);
                Answer::new(202, "").header("Location", PLACE)
            }
            (_, true, None) => Answer::new(404, ""),
            ("GET", true, Some(at)) => Answer::new(204, "").header("Range", &range(at)),
            ("DELETE", true, Some(_)) => {
                *had = None;
                Answer::new(204, "")
            }
            (_, true, Some(_)) if length > ways.most => {
                if ways.forgets {
                    *had = None;
                }
                Answer::new(503, "")
            }
            ("PATCH", true, Some(at)) => {
                let from = asked
                    .header("content-range")
                    .and_then(|it| it.split('-').next());
                if from != Some(&at.to_string()) {
                    return Answer::new(416, "");
                }
                assert_eq!(asked.header("connection"), Some("close"));
                *had = Some(at + length);
                Answer::new(202, "").header("Range", &range(at + length))
            }
            ("PUT", true, Some(at)) if at + length == LAYER_BYTES => Answer::new(201, ""),
            _ => Answer::new(400, ""),
        }
    })
    .await
}

#[tokio::test]
async fn pieces_shrink_until_they_come_through_and_what_is_given_up_is_deleted() {
    let image = Image::new();
    let layer = Descriptor::of(media_type::OCI_LAYER, &image.layer);
    assert_eq!(layer.size, LAYER_BYTES);
    const KIB: u64 = 1 << 10;
    for (most, forgets, arrives, patches, deletes) in [
        // All at once, as long as nothing is cut.
        (LAYER_BYTES, true, true, 0, 0),
        (512 * KIB, false, true, 1, 0),
        (300 * KIB, false, true, 1 + 3, 0),
        // What is forgotten is asked to be deleted: nobody knows whether it is gone.
        (300 * KIB, true, true, 1 + 3, 2),
        (KIB, false, false, 2, 1),
    ] {
        let text = format!("{most} {forgets}");
        let server = registry(Ways { most, forgets }).await;
        let fixture = Fixture::new();
        fixture.store.blobs().put(&image.layer).expect("put");
        let client = Client::new(ClientOptions {
            attempts: 3,
            upload_chunk_bytes: 512 * KIB,
            ..options()
        });
        let name = format!("{}/a/b", server.address);
        let name: Reference = name.parse().expect("name");
        let sent = client
            .send_blob(&name, &layer, &[], fixture.store.blobs(), None)
            .await;
        assert_eq!(sent.is_ok(), arrives, "{text}: {sent:?}");
        let asked = server.asked();
        let count = |method: &str| asked.iter().filter(|it| it.starts_with(method)).count();
        assert_eq!(count("PATCH"), patches, "{text}: {asked:#?}");
        assert_eq!(count("DELETE"), deletes, "{text}: {asked:#?}");
    }
}
