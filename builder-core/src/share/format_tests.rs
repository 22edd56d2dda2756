//! What is written reads back, and has BuildKit's schema.

use super::*;

fn layer(text: &str, created: Option<i64>) -> Layer {
    let diff_id = DiffId(Digest::of(text.as_bytes()));
    Layer {
        diff_id,
        blob: Descriptor::new("tar", diff_id.0, 1),
        content: ContentDigest::of(text.as_bytes()),
        created,
        clamped: None,
        origin: None,
    }
}

fn step(name: &str, layers: &[Layer]) -> Step {
    Step {
        keys: vec![Digest::of(name.as_bytes()), Digest::of(b"content")],
        name: name.to_owned(),
        layers: layers.to_vec(),
        parts: None,
    }
}

fn blobs(steps: &[Step]) -> BTreeMap<DiffId, Descriptor> {
    let named = |it: Layer| {
        let text = format!("compressed {}", it.diff_id.0);
        (
            it.diff_id,
            Descriptor::new("gzip", Digest::of(text.as_bytes()), 7),
        )
    };
    own_layers(steps).into_iter().map(named).collect()
}

#[test]
fn what_is_written_reads_back() {
    let (base, one) = (layer("base", None), layer("one", Some(5)));
    let (two, later) = (layer("two", Some(6)), layer("one", Some(9)));
    let steps = [
        step("a", &[base.clone(), one.clone()]),
        step("b", &[base.clone(), one.clone(), two.clone()]),
        step("c", std::slice::from_ref(&later)),
        step("d", std::slice::from_ref(&base)),
        step("e", &[]),
    ];
    let blobs = blobs(&steps);
    let encoded = encode(&steps, &blobs, Vec::new(), None);
    assert_eq!(encoded.layers.len(), 2, "each blob once");
    let bytes = encoded.config.to_bytes();
    let read = CacheConfig::parse(&bytes).expect("a config");
    assert_eq!(read.to_bytes(), bytes);
    let contents = read.contents("o", &BTreeMap::new());
    assert!(!contents.is_foreign);
    assert_eq!(contents.steps.len(), steps.len());
    for (known, step) in contents.steps.iter().zip(&steps) {
        let (below, above) = split(&step.layers);
        assert_eq!((&known.keys, &known.name), (&step.keys, &step.name));
        let below: Vec<DiffId> = below.iter().map(|it| it.diff_id).collect();
        assert_eq!(known.base, below, "{}", step.name);
        let promised = above.iter().map(|it| Layer {
            blob: blobs[&it.diff_id].clone(),
            origin: Some("o".to_owned()),
            ..it.clone()
        });
        assert_eq!(known.layers, promised.collect::<Vec<_>>(), "{}", step.name);
    }
}

#[test]
fn a_step_whose_layer_is_nowhere_is_left_out() {
    let steps = [step("a", &[layer("one", Some(5))]), step("b", &[])];
    let encoded = encode(&steps, &BTreeMap::new(), Vec::new(), None);
    let contents = encoded.config.contents("o", &BTreeMap::new());
    let names: Vec<String> = contents.steps.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn what_buildkit_reads_has_its_schema() {
    let one = layer("one", Some(0));
    let steps = [step("a", &[one.clone(), layer("two", Some(1))])];
    let encoded = encode(&steps, &blobs(&steps), Vec::new(), None);
    let value: serde_json::Value =
        serde_json::from_slice(&encoded.config.to_bytes()).expect("JSON");
    let parents: Vec<_> = [0, 1]
        .map(|at| value["layers"][at]["parent"].clone())
        .into();
    assert_eq!(parents, [-1, 0]);
    let annotations = &value["layers"][0]["annotations"];
    assert_eq!(annotations["diffID"], one.diff_id.0.to_string());
    assert_eq!(annotations["createdAt"], "1970-01-01T00:00:00Z");
    assert_eq!(value["records"].as_array().map(Vec::len), Some(2));
    assert_eq!(value["records"][0]["layers"][0]["layer"], 1);
}

#[test]
fn another_builders_config_is_told_from_ours() {
    let digest = Digest::of(b"x");
    for (text, is_foreign) in [
        (format!(r#"{{"records":[{{"digest":"{digest}"}}]}}"#), true),
        (
            format!(
                r#"{{"layers":[{{"blob":"{digest}"}}],"records":[{{"layers":[{{"layer":0}}],"digest":"{digest}","inputs":[[{{"link":0}}]]}}]}}"#
            ),
            true,
        ),
        (
            format!(r#"{{"records":[{{"digest":"{digest}"}}],"builder":{{"version":99}}}}"#),
            true,
        ),
        ("{}".to_owned(), false),
        (r#"{"builder":{"version":1}}"#.to_owned(), false),
    ] {
        let config = CacheConfig::parse(text.as_bytes()).expect("a config");
        let contents = config.contents("o", &BTreeMap::new());
        assert_eq!(contents.is_foreign, is_foreign, "{text}");
        assert!(contents.steps.is_empty(), "{text}");
    }
}
