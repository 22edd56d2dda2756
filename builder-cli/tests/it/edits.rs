//! Random edits of a random small project: the cached build gives the image that a build without a cache gives, and runs
//! nothing that a model says need not run.
//!
//! The model simulates the few instructions that projects are made of. What a step depends on is its text, the variables
//! that it sees, the stack that it stands on and the files that it takes; a step may run only if that combination was never
//! there before. A stack is the list of what its layers hold, so a step that ran again and made the same is the same.
//!
//! `EDITS=500` makes so many edits, `EDITS_SEED=7` starts elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::fixture::{self, Steps};

/// All files are younger than this, so that all times of an image are this one.
const EPOCH: &str = "1000000000";
const EDITS: u64 = 40;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("small")
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        (!list.is_empty()).then(|| &list[self.below(list.len())])
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum File {
    Plain { content: String, mode: u32 },
    Link { target: String },
}

#[derive(Debug, Clone)]
enum Line {
    /// A directory of the context to `/d<n>`.
    CopyDir {
        from: &'static str,
        to: usize,
    },
    /// `/d<what>` of an earlier stage to `/d<n>`.
    CopyFrom {
        stage: usize,
        what: usize,
        to: usize,
    },
    /// A constant into `/d<n>/said`.
    Say {
        word: String,
        to: usize,
    },
    /// All plain files below `/d<from>` into `/d<n>/all`.
    Cat {
        from: usize,
        to: usize,
    },
    /// The variables into `/d<n>/env`.
    Variables {
        to: usize,
    },
    Env {
        name: usize,
        value: String,
    },
    Arg {
        name: usize,
        default: String,
    },
}

impl Line {
    fn text(&self) -> String {
        match self {
            Line::CopyDir { from, to } => format!("COPY src/{from} /d{to}/"),
            Line::CopyFrom { stage, what, to } => format!("COPY --from=s{stage} /d{what} /d{to}/"),
            Line::Say { word, to } => format!("RUN mkdir -p /d{to} && echo {word} > /d{to}/said"),
            Line::Cat { from, to } => format!(
                "RUN mkdir -p /d{to} && find /d{from} -type f ! -path /d{to}/all | sort | xargs cat > /all && mv /all /d{to}/all"
            ),
            Line::Variables { to } => {
                format!(
                    "RUN mkdir -p /d{to} && env | grep '^[KA][0-9]=' | sort > /d{to}/env || true"
                )
            }
            Line::Env { name, value } => format!("ENV K{name}={value}"),
            Line::Arg { name, default } => format!("ARG A{name}={default}"),
        }
    }

    fn is_run(&self) -> bool {
        matches!(
            self,
            Line::Say { .. } | Line::Cat { .. } | Line::Variables { .. }
        )
    }
}

#[derive(Debug, Clone)]
struct Stage {
    from_scratch: bool,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Project {
    files: BTreeMap<String, File>,
    stages: Vec<Stage>,
    args: BTreeMap<usize, String>,
}

type Tree = BTreeMap<String, File>;

/// A step as the model sees it: its text, and all that it depends on.
type Step = (String, String);

impl Project {
    fn random(random: &mut Random) -> Project {
        let mut project = Project {
            files: BTreeMap::new(),
            stages: Vec::new(),
            args: BTreeMap::new(),
        };
        for dir in DIRS {
            let keep = File::Plain {
                content: "keep\n".to_owned(),
                mode: 0o644,
            };
            project.files.insert(format!("src/{dir}/keep"), keep);
        }
        for _ in 0..3 {
            project.stages.push(Stage {
                from_scratch: random.below(4) == 0,
                lines: Vec::new(),
            });
        }
        while project
            .stages
            .iter()
            .map(|it| it.lines.len())
            .sum::<usize>()
            < 12
        {
            let before = project.clone();
            if !project.edit_dockerfile(random, true) || project.steps().is_none() {
                project = before;
            }
        }
        project
    }

    fn dockerfile(&self) -> String {
        let mut text = String::new();
        for (nth, stage) in self.stages.iter().enumerate() {
            let base = if stage.from_scratch {
                "scratch"
            } else {
                "busybox"
            };
            text += &format!("FROM {base} AS s{nth}\n");
            for line in &stage.lines {
                text += &line.text();
                text.push('\n');
            }
        }
        text
    }

    /// Returns the steps that the last stage needs; `None` where the build would fail.
    fn steps(&self) -> Option<Vec<Step>> {
        let mut needed = BTreeSet::from([self.stages.len() - 1]);
        for nth in (0..self.stages.len()).rev() {
            for line in &self.stages[nth].lines {
                if let Line::CopyFrom { stage, .. } = line
                    && needed.contains(&nth)
                {
                    needed.insert(*stage);
                }
            }
        }
        let mut trees: BTreeMap<usize, Tree> = BTreeMap::new();
        let mut steps = Vec::new();
        for nth in needed {
            let stage = &self.stages[nth];
            let (mut tree, mut variables) = (Tree::new(), Vec::new());
            let mut stack = vec![format!("scratch {}", stage.from_scratch)];
            if stage
                .lines
                .iter()
                .all(|it| matches!(it, Line::Env { .. } | Line::Arg { .. }))
                && stage.from_scratch
            {
                return None;
            }
            for line in &stage.lines {
                if stage.from_scratch && line.is_run() {
                    return None;
                }
                let below = |tree: &Tree, what: usize| -> Option<Vec<(String, File)>> {
                    let prefix = format!("d{what}/");
                    let found = tree.iter().filter_map(|(path, file)| {
                        Some((path.strip_prefix(&prefix)?.to_owned(), file.clone()))
                    });
                    let found: Vec<_> = found.collect();
                    (!found.is_empty()).then_some(found)
                };
                let made: Vec<(String, File)> = match line {
                    Line::Env { name, value } => {
                        set(&mut variables, format!("K{name}"), value.clone());
                        continue;
                    }
                    Line::Arg { name, default } => {
                        let value = self.args.get(name).unwrap_or(default);
                        set(&mut variables, format!("A{name}"), value.clone());
                        continue;
                    }
                    Line::CopyDir { from, to } => {
                        let prefix = format!("src/{from}/");
                        let files = self.files.iter().filter_map(|(path, file)| {
                            Some((
                                format!("d{to}/{}", path.strip_prefix(&prefix)?),
                                file.clone(),
                            ))
                        });
                        files.collect()
                    }
                    Line::CopyFrom { stage, what, to } => {
                        let files = below(trees.get(stage)?, *what)?.into_iter();
                        files
                            .map(|(path, file)| (format!("d{to}/{path}"), file))
                            .collect()
                    }
                    Line::Say { word, to } => {
                        vec![(format!("d{to}/said"), plain(format!("{word}\n")))]
                    }
                    Line::Cat { from, to } => {
                        let mut all = String::new();
                        let own = format!("d{to}/all");
                        for (path, file) in below(&tree, *from)? {
                            if let File::Plain { content, .. } = file
                                && format!("d{from}/{path}") != own
                            {
                                all += &content;
                            }
                        }
                        vec![(own, plain(all))]
                    }
                    Line::Variables { to } => {
                        let mut lines: Vec<String> = variables
                            .iter()
                            .map(|(name, value)| format!("{name}={value}\n"))
                            .collect();
                        lines.sort();
                        vec![(format!("d{to}/env"), plain(lines.concat()))]
                    }
                };
                let sees = match line.is_run() {
                    true => format!("{variables:?}"),
                    false => format!("{made:?}"),
                };
                steps.push((line.text(), format!("{stack:?} {} {sees}", line.text())));
                stack.push(format!("{made:?}"));
                for (path, file) in made {
                    tree.insert(path, file);
                }
            }
            trees.insert(nth, tree);
        }
        Some(steps)
    }

    /// Makes one edit of the Dockerfile; returns whether there was anything to do.
    fn edit_dockerfile(&mut self, random: &mut Random, only_add: bool) -> bool {
        let nth = random.below(self.stages.len());
        let word = format!("w{}", random.below(1000));
        let stage = &mut self.stages[nth];
        let at = random.below(stage.lines.len() + 1);
        if only_add || random.below(3) == 0 {
            let to = random.below(4);
            let from = random.below(4);
            let line = match random.below(8) {
                0 | 1 => Line::CopyDir {
                    from: DIRS[random.below(2)],
                    to,
                },
                2 if nth > 0 => Line::CopyFrom {
                    stage: random.below(nth),
                    what: from,
                    to,
                },
                3 => Line::Say { word, to },
                4 if from != to => Line::Cat { from, to },
                5 => Line::Variables { to },
                6 => Line::Env {
                    name: random.below(3),
                    value: word,
                },
                7 => Line::Arg {
                    name: random.below(3),
                    default: word,
                },
                _ => return false,
            };
            stage.lines.insert(at, line);
            return true;
        }
        if stage.lines.is_empty() {
            return false;
        }
        let at = at.min(stage.lines.len() - 1);
        match random.below(3) {
            0 => {
                stage.lines.remove(at);
                return true;
            }
            1 if at > 0 => {
                stage.lines.swap(at - 1, at);
                return true;
            }
            _ => {}
        }
        match &mut stage.lines[at] {
            Line::Say { word: it, .. }
            | Line::Env { value: it, .. }
            | Line::Arg { default: it, .. } => *it = word,
            _ => return false,
        }
        true
    }

    /// Makes one edit of anything; `dir` is edited too where it is a file.
    fn edit(&mut self, random: &mut Random, dir: &Path) -> Option<String> {
        let paths: Vec<String> = self.files.keys().cloned().collect();
        let own: Vec<&String> = paths.iter().filter(|it| !it.ends_with("keep")).collect();
        let new = format!(
            "src/{}/{}",
            DIRS[random.below(2)],
            ["a", "b", "c", "sub/d"][random.below(4)]
        );
        let what = match random.below(12) {
            0 | 1 => {
                let content = format!("{}\n", random.below(5));
                let what = format!("write {new}: {content:?}");
                self.files.insert(new, plain(content));
                what
            }
            2 => {
                let path = (*random.pick(&own)?).clone();
                self.files.remove(&path);
                format!("remove {path}")
            }
            3 => {
                let path = (*random.pick(&own)?).clone();
                let file = self.files.remove(&path)?;
                self.files.insert(new.clone(), file);
                format!("rename {path} to {new}")
            }
            4 => {
                let path = random.pick(&paths)?.clone();
                let File::Plain { mode, .. } = self.files.get_mut(&path)? else {
                    return None;
                };
                *mode = [0o644, 0o755, 0o600][random.below(3)];
                format!("chmod {path} {mode:o}")
            }
            5 => {
                let target = ["a", "keep", "nothing"][random.below(3)].to_owned();
                let what = format!("link {new} to {target}");
                self.files.insert(new, File::Link { target });
                what
            }
            6 => {
                // Only the time: a new file with the same bytes.
                let path = random.pick(&paths)?;
                let File::Plain { content, .. } = self.files.get(path)? else {
                    return None;
                };
                fs::write(dir.join(path), content).expect("write");
                format!("touch {path}")
            }
            7 => {
                let name = random.below(3);
                if random.below(3) == 0 {
                    self.args.remove(&name);
                } else {
                    self.args.insert(name, format!("v{}", random.below(4)));
                }
                format!("args {:?}", self.args)
            }
            _ => {
                if !self.edit_dockerfile(random, false) {
                    return None;
                }
                "the Dockerfile".to_owned()
            }
        };
        self.steps().map(|_| what)
    }

    /// Makes `dir` what the project is; what is right is not touched.
    fn write(&self, before: &Project, dir: &Path) {
        for path in before
            .files
            .keys()
            .filter(|path| !self.files.contains_key(*path))
        {
            fs::remove_file(dir.join(path)).expect("remove");
        }
        for (path, file) in &self.files {
            if before.files.get(path) == Some(file) {
                continue;
            }
            let path = dir.join(path);
            let parent = path.parent().expect("a parent");
            fs::create_dir_all(parent).expect("mkdir");
            fixture::set_mode(parent, 0o755);
            let _ = fs::remove_file(&path);
            match file {
                File::Plain { content, mode } => {
                    fs::write(&path, content).expect("write");
                    fixture::set_mode(&path, *mode);
                }
                File::Link { target } => {
                    std::os::unix::fs::symlink(target, &path).expect("symlink");
                }
            }
        }
        // Directories that only hold what is gone would be copied, and the model does not know of them.
        for dir_name in DIRS {
            let _ = fs::remove_dir(dir.join("src").join(dir_name).join("sub"));
        }
        fs::write(dir.join("Dockerfile"), self.dockerfile()).expect("write");
    }
}

const DIRS: [&str; 2] = ["x", "y"];

fn plain(content: String) -> File {
    File::Plain {
        content,
        mode: 0o644,
    }
}

fn set(variables: &mut Vec<(String, String)>, name: String, value: String) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => variables.push((name, value)),
    }
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |it| it.parse().expect(name))
}

#[test]
fn after_any_edit_the_cached_build_is_the_uncached_one() {
    let Some(base) = fixture::base("edits") else {
        return;
    };
    let (edits, seed) = (number("EDITS", EDITS), number("EDITS_SEED", 1));
    let mut random = Random(seed);
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    fs::create_dir(&dir).expect("mkdir");
    let build = |project: &Project, store: &str, extra: &[&str]| {
        let iid = temp.path().join("iid");
        let mut command = fixture::build(base, &temp.path().join(store));
        command
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .args(["--progress=rawjson", "--gc=off"])
            .args(extra);
        for (name, value) in &project.args {
            command.arg("--build-arg").arg(format!("A{name}={value}"));
        }
        let ran = fixture::run(command.arg("--iidfile").arg(&iid).arg(&dir)).ok();
        (Steps::of(&ran), fs::read_to_string(&iid).expect("iidfile"))
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (mut all, mut must, mut ran) = (0, 0, 0);
    let mut project = Project::random(&mut random);
    let nothing = Project {
        files: BTreeMap::new(),
        ..project.clone()
    };
    project.write(&nothing, &dir);
    let mut what = "the first build".to_owned();
    let mut nth = 0;
    loop {
        let steps = project.steps().expect("a project that builds");
        let (cached, id) = build(&project, "store", &[]);
        let (_, fresh) = build(&project, "fresh", &["--no-cache"]);
        let told = || {
            format!(
                "edit {nth} of seed {seed} ({what}):\n{}",
                project.dockerfile()
            )
        };
        assert_eq!(id, fresh, "the image of the cached build, {}", told());
        let mut may: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (text, key) in steps.iter().filter(|(_, key)| !seen.contains(key)) {
            may.entry(text).or_default().insert(key);
        }
        let mut did: BTreeMap<&str, usize> = BTreeMap::new();
        for step in cached.reran() {
            *did.entry(step).or_default() += 1;
        }
        for (step, count) in &did {
            let may = may.get(step).map_or(0, BTreeSet::len);
            assert!(
                *count <= may,
                "`{step}` ran {count} times, not {may}, {}",
                told()
            );
        }
        all += steps.len();
        must += may.values().map(BTreeSet::len).sum::<usize>();
        ran += did.values().sum::<usize>();
        seen.extend(steps.into_iter().map(|(_, key)| key));
        if nth == edits {
            break;
        }
        nth += 1;
        loop {
            let mut edited = project.clone();
            if let Some(edit) = edited.edit(&mut random, &dir) {
                edited.write(&project, &dir);
                (project, what) = (edited, edit);
                break;
            }
        }
    }
    use std::io::Write;
    let line = format!("edits: {edits} edits, {all} steps, {must} might run, {ran} ran\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    assert!(ran > 0 && ran < all, "{line}");
}
