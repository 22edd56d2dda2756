use serde_json::json;

use super::Template;

#[test]
fn templates_are_filled_in() {
    let value = json!({
        "ID": "abc", "Tags": ["a:1", "b:2"], "Size": 12, "None": null,
        "Config": {"Env": ["A=1"], "Labels": {"k": "v", "b": "w"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {}},
    });
    for (text, expected) in [
        ("{{.ID}}", "abc"),
        (r"{{.ID}}\t{{.Size}}\n", "abc\t12\n"),
        (
            "{{json .Tags}} {{json .}}",
            &format!("[\"a:1\",\"b:2\"] {value}"),
        ),
        ("{{.Tags}} {{.Config.Labels}}", "[a:1 b:2] map[b:w k:v]"),
        (
            "{{.Config.ExposedPorts}} {{.Config.Volumes}}",
            "map[80/tcp:{}] map[]",
        ),
        ("{{upper .ID}}{{.ID | upper | lower}}", "ABCabc"),
        ("{{len .Tags}}{{len .ID}}", "23"),
        ("{{index .Tags 1}} {{index .Config.Labels \"k\"}}", "b:2 v"),
        ("<{{index .Config.Labels \"nope\"}}>", "<>"),
        ("<{{index .Config.Nothing \"nope\"}}>", "<>"),
        ("{{join .Tags \", \"}}", "a:1, b:2"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
        ("{{range .Config.Nothing}}x{{else}}none{{end}}", "none"),
        ("{{if .Tags}}yes{{else}}no{{end}}", "yes"),
        ("a {{- .ID -}} b", "aabcb"),
        (
            "{{.Config.Nothing}} {{json .Config.Nothing}}",
            "<no value> null",
        ),
        ("{{truncate .ID 2}}{{println .Size}}", "ab12\n"),
        ("{{/* }} not */}}plain {{- /* */ -}} x", "plainx"),
        // Comparisons.
        ("{{eq .ID \"x\" \"abc\"}} {{eq .Size 12}}", "true true"),
        (
            "{{ne .ID \"x\"}} {{not .Tags}} {{not .None}}",
            "true false true",
        ),
        (
            "{{lt .Size 13}}{{ge .Size 12.5}}{{gt .ID \"abb\"}}",
            "truefalsetrue",
        ),
        ("{{eq .Config.Nothing \"\"}} {{eq .ID nil}}", "true false"),
        (
            "{{and .ID .Size}} {{and .None .ID}} {{or .None .ID}}",
            "12 <no value> abc",
        ),
        // What stands behind the one that decides is not looked at.
        ("{{or .ID (index .Tags 9)}}", "abc"),
        ("{{.ID | eq \"abc\"}}", "true"),
        // Branches.
        (
            "{{if eq .Size 1}}a{{else if eq .Size 12}}b{{else}}c{{end}}d",
            "bd",
        ),
        ("{{if .None}}a{{else if .None}}b{{else}}c{{end}}d", "cd"),
        ("{{if .None}}a{{else if .None}}b{{end}}d", "d"),
        ("{{- if .ID -}} a {{- else -}} b {{- end -}} c", "ac"),
        ("{{with .Config}}{{.Env}}{{$.ID}}{{end}}", "[A=1]abc"),
        ("{{with .None}}x{{else}}{{.ID}}{{end}}", "abc"),
        ("{{with $x := .ID}}{{$x}}{{.}}{{end}}", "abcabc"),
        // Variables.
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "b=w;k=v;",
        ),
        (
            "{{range $i, $t := .Tags}}{{$i}}{{$t}} {{end}}",
            "0a:1 1b:2 ",
        ),
        ("{{range $t := .Tags}}{{$t}}{{.}}{{end}}", "a:1a:1b:2b:2"),
        (
            "{{range $k, $_ := .Config.ExposedPorts}}{{$k}}{{end}}",
            "80/tcp",
        ),
        ("{{$x := .Config}}{{$x.Env}}{{$x := 1}}{{$x}}", "[A=1]1"),
        ("{{$n := 0}}{{range .Tags}}{{$n = len .}}{{end}}{{$n}}", "3"),
        ("{{$n := 0}}{{if .ID}}{{$n := 1}}{{end}}{{$n}}", "0"),
        // Parentheses.
        ("{{(len .ID)}}{{len (index .Tags 0)}}", "33"),
        ("{{(index (split .ID \"b\") 1) | upper}}", "C"),
        ("{{if and (eq .Size 12) (not .None)}}y{{end}}", "y"),
        ("{{($).Config.Env}} {{(.Config).Env}}", "[A=1] [A=1]"),
        // Texts.
        (
            r#"{{printf "%s|%5d|%-5s|%05d|%.2s|%q|%v|%t|%%" .ID .Size .ID .Size .ID .ID .Tags true}}"#,
            "abc|   12|abc  |00012|ab|\"abc\"|[a:1 b:2]|true|%",
        ),
        (
            "{{printf \"%x\" \"az\"}}{{.ID | printf \"<%3s>\"}}",
            "617a<abc>",
        ),
        ("{{print .ID .Size 1}} {{print 1 2}}", "abc12 1 1 2"),
        (
            "{{title \"a bc\"}}<{{pad .ID 1 2}}>{{pad \"\" 1 2}}",
            "A Bc< abc  >",
        ),
        (
            "{{slice .ID 1}}{{slice .ID 0 1}}{{slice .Tags 1}}",
            "bca[b:2]",
        ),
        (r#"{{"}}\"A"}}{{`a"`}}"#, "}}\"Aa\""),
        ("{{true}} {{-1}} {{1.5}}", "true -1 1.5"),
    ] {
        match Template::parse(text).and_then(|it| it.fill(&value, false)) {
            Ok(filled) => assert_eq!(filled, expected, "{text}"),
            Err(why) => panic!("{text}: {why}"),
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let value = json!({"ID": "abc", "Config": {}, "Tags": ["a"]});
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(9999), ")".repeat(9999));
    for (text, strict, expected) in [
        (
            "{{.Id}}",
            false,
            "no field `.Id`; there are: ID, Config, Tags",
        ),
        (
            "{{with .Config}}{{$.Id}}{{else}}{{$.Id}}{{end}}",
            false,
            "no field `.Id`",
        ),
        ("{{.Config.Env}}", true, "no field `.Env`"),
        ("{{.ID.x}}", false, "no field `.ID.x`: `.ID` is a text"),
        (
            "{{range .Tags}}{{.x}}{{end}}",
            false,
            "no field `.x`: `.` is a text",
        ),
        ("{{json .Tags.x}}", false, "`.Tags` is a list"),
        ("{{template \"x\"}}", false, "`template` is not supported"),
        ("{{html .ID}}", false, "`html` is not supported"),
        ("{{break}}", false, "`break` is not supported"),
        ("{{eq .ID 1}}", false, "compares two texts or two numbers"),
        ("{{eq .ID}}", false, "`eq` does not take these arguments"),
        ("{{and}}", false, "`and` does not take"),
        ("{{$x}}", false, "`$x` is not declared"),
        ("{{$x = 1}}", false, "`$x` is not declared"),
        (
            "{{if $x := .ID}}{{end}}{{$x}}",
            false,
            "`$x` is not declared",
        ),
        (
            "{{range $k, $v := .Tags}}{{end}}{{$v}}",
            false,
            "`$v` is not declared",
        ),
        ("{{$ := 1}}", false, "`$` is the whole value"),
        ("{{$a, $b := .Tags}}", false, "`$a` is not declared"),
        ("{{.ID", false, "not closed"),
        ("{{range .ID}}x", false, "has no `{{end}}`"),
        (
            "{{range .ID}}x{{end}}",
            false,
            "`range` needs a list or a map",
        ),
        ("{{if .ID}}x{{else}}y", false, "has no `{{end}}`"),
        (
            "{{if .ID}}x{{else}}y{{else}}z{{end}}",
            false,
            "a second `{{else}}`",
        ),
        (
            "{{if .ID}}{{else with .ID}}{{end}}",
            false,
            "`{{else with .ID}}` is not supported behind `if`",
        ),
        ("{{end}}", false, "closes nothing"),
        ("{{else if .ID}}", false, "`{{else if .ID}}` closes nothing"),
        ("{{end .ID}}", false, "`end` stands alone"),
        ("{{}}", false, "is empty"),
        ("{{if}}{{end}}", false, "is empty"),
        ("{{.ID |}}", false, "is empty"),
        ("{{.ID | .ID}}", false, "a value takes no arguments"),
        ("{{upper .Config}}", false, "needs a text"),
        ("{{index .Tags 7}}", false, "no item 7"),
        ("{{index .ID \"a\"}}", false, "is no key"),
        (
            "{{eq len .ID}}",
            false,
            "`len` stands where a value is expected",
        ),
        ("{{(len .ID}}", false, "`(` is not closed"),
        ("{{len .ID)}}", false, "`)` closes nothing"),
        (deep.as_str(), false, "nested too deeply"),
        ("{{\"x}}", false, "quote"),
        ("{{'x'}}", false, "`'` is not supported"),
        ("{{.Config.Env-x}}", false, "not supported"),
        ("{{..}}", false, "is no field"),
        ("{{printf \"%s\"}}", false, "%s has no value"),
        (
            "{{printf \"%d\" .ID}}",
            false,
            "%d does not take such a value",
        ),
        ("{{printf \"%z\" .ID}}", false, "%z is not supported"),
        ("{{printf \"\" .ID}}", false, "more values"),
        ("{{printf \"%99999s\" .ID}}", false, "cannot be read"),
        ("{{slice .ID 9}}", false, "is not inside"),
        ("{{slice .ID 2 1}}", false, "is not inside"),
        ("{{/* x", false, "comment"),
    ] {
        let filled = Template::parse(text).and_then(|it| it.fill(&value, strict));
        let why = filled.expect_err(text);
        assert!(why.contains(expected), "{text}: {why}");
    }
}

#[test]
fn fields_may_have_a_look_of_their_own() {
    let value = json!({"A": {"B": 5}});
    let shows = |path: &[String], value: &serde_json::Value| match path.join(".").as_str() {
        "A.B" => Some(format!("{value}s")),
        "A.C" | "D" => Some(String::new()),
        _ => None,
    };
    for (text, expected) in [
        ("{{.A.B}} {{$.A.B}} {{json .A.B}}", "5s 5s 5"),
        ("<{{.A.C}}{{.D}}>{{.A.X}}", "<><no value>"),
        ("{{with .A}}{{.B}}{{$.A.B}}{{end}}", "55s"),
        ("{{if eq .D \"\"}}y{{end}}", "y"),
    ] {
        let template = Template::parse(text).expect(text);
        assert_eq!(
            template.fill_as(&value, false, shows),
            Ok(expected.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn heads_of_a_table() {
    let template = r"{{.ID}}\t{{.CreatedSince}}\t{{upper (json .CreatedBy)}} x";
    let template = Template::parse(template).expect("template");
    assert_eq!(template.heads(), ["IMAGE ID", "CREATED", "CREATED BY x"]);
}
