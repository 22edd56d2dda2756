//! Blobs that come in several goes, to several who want them, or are read on the way.

use std::io::Read;

use super::*;

/// The layer's ranges, as they were asked for; empty for the whole.
fn gets(server: &Server, image: &Image) -> Vec<String> {
    let layer = Digest::of(&image.layer).to_string();
    let log = server.log.lock().expect("log");
    let asked = log.iter().filter(|it| it.path.ends_with(&layer));
    asked
        .map(|it| it.header("range").unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn an_interrupted_pull_goes_on_in_the_next_process() {
    let image = Image::new();
    let served = image.clone();
    let layer = Digest::of(&image.layer).to_string();
    let server = Server::start(move |asked, _| {
        let answer = served.serve(asked);
        match asked.path.ends_with(&layer) && asked.header("range").is_none() {
            true => answer.cut(300_000),
            false => answer,
        }
    })
    .await;
    let dir = tempfile::tempdir().expect("temp dir");
    let part = dir.path().join("downloads");
    let part = part.join(Digest::of(&image.layer).hex());
    let fixture = |dir: &Path| Fixture {
        _dir: tempfile::tempdir().expect("temp dir"),
        store: Store::open(dir).expect("store"),
    };
    {
        let once = ClientOptions {
            attempts: 1,
            ..options()
        };
        let first = fixture(dir.path());
        let error = first.pull(&Client::new(once), &server).await;
        assert!(matches!(error, Err(RegistryError::Unreachable { .. })));
    }
    let come = std::fs::metadata(&part).expect("part").len();
    assert!(come > 0 && come <= 300_000, "{come}");
    let second = fixture(dir.path());
    let pulled = second.pull(&Client::new(options()), &server).await;
    pulled.expect("pull");
    second.store.blobs().verify_all().expect("verify");
    assert_eq!(
        gets(&server, &image),
        [String::new(), format!("bytes={come}-")]
    );
    assert!(!part.exists());
}

#[tokio::test]
async fn a_wrong_start_is_fetched_again() {
    let image = Image::new();
    let served = image.clone();
    let server = Server::start(move |asked, _| served.serve(asked)).await;
    let fixture = Fixture::new();
    let parts = fixture.store.root().join("downloads");
    std::fs::create_dir(&parts).expect("mkdir");
    let part = parts.join(Digest::of(&image.layer).hex());
    for wrong in [vec![9; 1000], vec![9; image.layer.len()]] {
        let digest = Digest::of(&image.layer);
        fixture.store.blobs().remove(&digest).expect("remove");
        std::fs::write(&part, &wrong).expect("write");
        let pulled = fixture.pull(&Client::new(options()), &server).await;
        pulled.expect("pull");
        fixture.store.blobs().verify_all().expect("verify");
        assert!(!part.exists());
    }
    assert_eq!(gets(&server, &image), ["bytes=1000-", "", ""]);
}

#[tokio::test]
async fn two_processes_fetch_a_blob_once() {
    let image = Image::new();
    let served = image.clone();
    let layer = Digest::of(&image.layer).to_string();
    let server = Server::start(move |asked, _| {
        let mut answer = served.serve(asked);
        if asked.path.ends_with(&layer) {
            answer.delay = Duration::from_millis(200);
        }
        answer
    })
    .await;
    let dir = tempfile::tempdir().expect("temp dir");
    let others = [0; 3].map(|_| Fixture {
        _dir: tempfile::tempdir().expect("temp dir"),
        store: Store::open(dir.path()).expect("store"),
    });
    let pulls = others.iter().map(|it| async {
        let client = Client::new(options());
        it.pull(&client, &server).await.expect("pull");
        it.store.blobs().verify_all().expect("verify")
    });
    futures_util::future::join_all(pulls).await;
    assert_eq!(gets(&server, &image), [""]);
}

#[tokio::test]
async fn a_blob_is_read_while_it_comes() {
    let image = Image::new();
    let served = image.clone();
    let cut = Mutex::new(Some(500_000));
    let layer = Digest::of(&image.layer).to_string();
    let server = Server::start(move |asked, _| {
        let answer = served.serve(asked);
        match asked.path.ends_with(&layer) {
            true => match cut.lock().expect("cut").take() {
                Some(after) => answer.cut(after),
                None => answer,
            },
            false => answer,
        }
    })
    .await;
    let fixture = Fixture::new();
    let client = Client::new(options());
    let found = fixture.resolve(&client, &server).await.expect("resolve");
    let readers = Mutex::new(Vec::new());
    let begun = |mut follower: crate::store::Follower| {
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            follower.read_to_end(&mut bytes).map(|_| bytes)
        });
        readers.lock().expect("readers").push(reader);
    };
    let blobs = fixture.store.blobs();
    let fetch = client.fetch_blob_followed(&found.source, &found.layers[0], blobs, None, &begun);
    fetch.await.expect("fetch");
    let mut readers = readers.into_inner().expect("readers");
    // A connection that is cut is no new beginning.
    assert_eq!(readers.len(), 1);
    let read = readers.remove(0).join().expect("join").expect("read");
    assert_eq!(read, image.layer);
}
