//! Root and an ordinary user with subordinate ids make the same layers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::build_cases::{self, Case};
use crate::fixture;
use crate::tree::Image;
use crate::users::ordinary_user;

#[test]
fn root_and_an_ordinary_user_make_the_same_layers() {
    let Some(base) = fixture::base("rootless") else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip(
            "rootless",
            "to be run by root, which then changes to an ordinary user",
        );
    }
    let Some((user, uid, gid)) = ordinary_user() else {
        return fixture::skip("rootless", "an ordinary user with 65536 ids in /etc/subuid");
    };
    for tool in ["newuidmap", "newgidmap", "setpriv"] {
        if !fixture::has(tool) {
            return fixture::skip("rootless", tool);
        }
    }

    let temp = fixture::temp_dir();
    let program = temp.path().join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    fixture::set_mode(&program, 0o755);
    let home = temp.path().join("home");
    fs::create_dir(&home).expect("mkdir");
    std::os::unix::fs::chown(&home, Some(uid), Some(gid)).expect("chown");

    let mut wrong = Vec::new();
    let mut compared = 0;
    for dir in build_cases::all() {
        let case = Case::load(&dir);
        if case.fails() || !case.fits_ordinary_user() {
            continue;
        }
        let name = build_cases::name(&dir);
        // A folder of its own: the checkout may be out of the user's reach.
        let here = temp.path().join(&name);
        fixture::copy_tree(&dir, &here);
        let context = here.join("written-context");
        case.write_context(&dir, &context);
        // A user builds what is the user's: a folder that nobody else may read is in one of the cases.
        let owner = format!("{uid}:{gid}");
        let owned = Command::new("chown")
            .args(["-hR", &owner])
            .arg(&context)
            .status();
        assert!(owned.is_ok_and(|it| it.success()), "chown of the context");
        let build = |command: &mut Command, store: &Path, out: &Path| {
            command.args(["build", "--root"]).arg(store);
            for (name, tag) in [("busybox", "latest"), ("busybox:onbuild", "onbuild")] {
                command
                    .arg("--build-context")
                    .arg(format!("{name}=oci-layout://{}:{tag}", base.display()));
            }
            command
                .arg("--progress=plain")
                .arg("--output")
                .arg(format!("type=oci,dest={},tar=false", out.display()));
            case.arguments(&here, &context, command);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            fixture::run(command)
        };
        let as_root = build(
            &mut Command::new(&program),
            &temp.path().join("root-store"),
            &here.join("root-out"),
        );
        let mut setpriv = Command::new("setpriv");
        setpriv
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"));
        setpriv
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(&program)
            .current_dir(&home);
        setpriv
            .env("HOME", &home)
            .env("USER", &user)
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_DATA_HOME");
        let user_out = home.join(&name);
        let as_user = build(&mut setpriv, &home.join("store"), &user_out);
        if as_root.code != Some(0) || as_user.code != Some(0) {
            wrong.push(format!(
                "── {name} ──\nroot: {}\n{user}: {}",
                as_root.stderr, as_user.stderr
            ));
            continue;
        }
        let (one, two) = (
            Image::open(&here.join("root-out"), None),
            Image::open(&user_out, None),
        );
        if one.diff_ids() != two.diff_ids() {
            let base = Image::open(base, Some("latest"));
            wrong.push(format!(
                "── {name} ── other layers\nroot:\n{}{user}:\n{}",
                one.changes_above(Some(&base)),
                two.changes_above(Some(&base))
            ));
        }
        compared += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} cases differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        compared > 30 || std::env::var_os("CASE").is_some(),
        "only {compared} cases compared"
    );
}
