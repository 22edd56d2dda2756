//! `RUN --device`: what a spec says of a device is in the step, by whoever builds, and in nothing else.

use std::fs;

use crate::fixture;
use crate::users;

const SPEC: &str = "\
cdiVersion: 0.6.0
kind: acme.com/toy
devices:
  - name: zero
    containerEdits:
      env: [TOY=on]
      deviceNodes: [{path: /dev/toys/zero, hostPath: /dev/zero}]
      mounts: [{hostPath: /etc/passwd, containerPath: /toy/passwd, options: [ro, nosuid, nodev, bind]}]
  - name: hooked
    containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}
";

const USES: &str = "\
FROM busybox
RUN --device=acme.com/toy=zero,required \\
    echo toy is $TOY, $(head -c 3 /dev/toys/zero | wc -c) bytes; test -s /toy/passwd && ! echo x 2>/dev/null >> /toy/passwd
RUN --device=acme.com/toy=none test ! -e /dev/toys && echo \"none, ${TOY:-off}\"
";

#[test]
fn a_step_has_its_devices() {
    let Some(base) = fixture::base("devices") else {
        return;
    };
    let temp = fixture::temp_dir();
    for who in users::everybody("devices", temp.path()) {
        let context = who.home.join("context");
        fs::create_dir_all(context.join("cdi")).expect("mkdir");
        fs::write(context.join("cdi/acme.yaml"), SPEC).expect("write");
        let built = |dockerfile: &str, args: &[&str]| {
            fs::write(context.join("Dockerfile"), dockerfile).expect("write");
            who.give(&context);
            let mut command = who.build(base);
            command.arg("--cdi-spec-dir").arg(context.join("cdi"));
            command.arg("--progress=plain").args(args);
            fixture::run(command.arg(&context))
        };
        let out = who.home.join("out");
        let to = out.to_str().expect("UTF-8");
        for (allow, rung) in [
            ("device", "auto"),
            ("device=acme.com/toy", "copied"),
            ("device=acme.com/toy=zero", "auto"),
        ] {
            let isolation = format!("--isolation={rung}");
            let ran = built(
                USES,
                &["--no-cache", "--allow", allow, &isolation, "-o", to],
            );
            let title = format!("{}, {allow}: {}", who.name, ran.stderr);
            assert_eq!(ran.code, Some(0), "{title}");
            assert!(ran.stderr.contains("toy is on, 3 bytes"), "{title}");
            assert!(ran.stderr.contains("none, off"), "{title}");
            for left in ["toy", "dev/toys"] {
                assert!(!out.join(left).exists(), "{title}: /{left}");
            }
        }
        let step = |device: &str| format!("FROM busybox\nRUN --device={device} true\n");
        for (device, args, expected) in [
            (
                "acme.com/toy=zero",
                &[][..],
                &["is not allowed", "--allow device=acme.com/toy=zero"][..],
            ),
            (
                "acme.com/toy=zero",
                &["--allow", "device=acme.com/toy=hooked"],
                &["is not allowed", "Dockerfile:2"],
            ),
            ("acme.com/toy=hooked", &["--allow", "device"], &["`hooks`"]),
            (
                "acme.com/toy=none,required",
                &["--allow", "device"],
                &["no spec", "/etc/cdi", "Dockerfile:2"],
            ),
        ] {
            let ran = built(&step(device), args);
            assert_eq!(ran.code, Some(1), "{device}: {}", ran.stderr);
            for part in expected {
                assert!(
                    ran.stderr.contains(part),
                    "{device}: {part}: {}",
                    ran.stderr
                );
            }
        }
        if fixture::is_root() && !who.is_ordinary() {
            let ran = built(
                USES,
                &["--allow", "device", "--isolation=chroot", "--no-cache"],
            );
            assert_eq!(ran.code, Some(1), "{}", ran.stderr);
            let named = "needs a mount, which is not permitted here";
            assert!(ran.stderr.contains(named), "{}", ran.stderr);
        }
    }
}
