//! Jobs and cron jobs.

mod support;

use serde_json::{Value, json};
use skiff_api::Target;
use skiff_api::kind::Subresource;

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, update};

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "busybox:1"}]}})
}

fn job(spec: Value) -> Value {
    let meta = over(metadata("pi"), json!({"uid": "7"}));
    json!({"metadata": meta, "spec": over(json!({"template": template()}), spec)})
}

fn cron_job(spec: Value) -> Value {
    let base = json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template()}}});
    json!({"metadata": metadata("tick"), "spec": over(base, spec)})
}

#[test]
fn a_job_is_filled_in_and_selects_its_own_pods() {
    let object = json_of(created("batch/Job", job(json!({}))).as_ref());
    let spec = &object["spec"];
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        (
            "selector",
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "7"}}),
        ),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    assert_eq!(
        spec["template"]["metadata"]["labels"],
        json!({
            "batch.kubernetes.io/controller-uid": "7",
            "batch.kubernetes.io/job-name": "pi",
            "controller-uid": "7",
            "job-name": "pi",
        })
    );
    assert_eq!(
        (&object["metadata"]["generation"], &object["status"]),
        (&json!(1), &json!({}))
    );
    let parallel = json_of(defaulted("batch/Job", job(json!({"parallelism": 3}))).as_ref());
    assert_eq!(parallel["spec"]["completions"], Value::Null, "a work queue");
}

#[test]
fn invalid_jobs_are_refused_with_upstreams_words() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"template": {"spec": {"restartPolicy": "Always"}}, "backoffLimit": -1}),
            vec![
                "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"template": {"metadata": {"labels": {"job-name": "other"}}}}),
            vec![
                "spec.template.metadata.labels[job-name]: Invalid value: \
                 {\"batch.kubernetes.io/controller-uid\":\"7\",\"batch.kubernetes.io/job-name\":\"pi\",\
                 \"controller-uid\":\"7\",\"job-name\":\"other\"}: must be 'pi'",
            ],
        ),
        (
            json!({"manualSelector": true}),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": null, "parallelism": 2}),
            vec!["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            json!({"backoffLimitPerIndex": 1, "successPolicy": {"rules": []}}),
            vec![
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
            ],
        ),
        (
            json!({"podFailurePolicy": {"rules": [
                {"action": "Ignore"},
                {"action": "Jump", "onExitCodes": {"operator": "In", "containerName": "b", "values": [0, 3, 1]}},
                {"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]}}),
            vec![
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                "spec.podFailurePolicy.rules[1].action: Unsupported value: \"Jump\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
                "spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: \"b\": must be one of the container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[1].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [0,3,1]: must be ordered",
                "spec.podFailurePolicy.rules[2].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [
                {}, {"succeededIndexes": "0-5"}, {"succeededIndexes": "0,1", "succeededCount": 3},
            ]}}),
            vec![
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
                "spec.successPolicy.rules[1].succeededIndexes: Invalid value: \"0-5\": error parsing succeededIndexes: too large index: \"5\"",
                "spec.successPolicy.rules[2].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            ],
        ),
        (
            json!({"managedBy": "someone"}),
            vec![
                "spec.managedBy: Invalid value: \"someone\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors("batch/Job", job(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn what_a_job_runs_never_changes_unless_it_has_not_begun() {
    let old = json_of(created("batch/Job", job(json!({}))).as_ref());
    let change = |old: &Value, spec: Value| {
        let (_, errors) = update(
            "batch/Job",
            old.clone(),
            over(old.clone(), json!({"spec": spec})),
            Target::Main,
        );
        errors
            .into_iter()
            .map(|error| {
                error.split(" value").next().unwrap_or_default().to_string()
                    + error.rsplit(": ").next().unwrap_or_default()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        change(&old, json!({"parallelism": 4, "suspend": true})),
        Vec::<String>::new()
    );
    assert_eq!(
        change(&old, json!({"completions": 4})),
        ["spec.completions: Invalidfield is immutable"]
    );
    let placed = json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}});
    assert_eq!(
        change(&old, placed.clone()),
        ["spec.template: Invalidfield is immutable"]
    );
    let suspended = over(old, json!({"spec": {"suspend": true}}));
    assert_eq!(change(&suspended, placed), Vec::<String>::new());
    assert_eq!(
        change(&suspended, json!({"template": {"spec": {"hostNetwork": true}}})),
        ["spec.template: Invalidfield is immutable"]
    );
}

#[test]
fn the_status_of_a_job_is_written_apart() {
    let old = json_of(created("batch/Job", job(json!({}))).as_ref());
    let new = over(
        old.clone(),
        json!({"spec": {"parallelism": 9}, "status": {"active": 1, "ready": 2}}),
    );
    let (object, errors) = update(
        "batch/Job",
        old.clone(),
        new.clone(),
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(object["spec"]["parallelism"], 1);
    assert_eq!(
        errors,
        ["status.ready: Invalid value: 2: cannot set more ready pods than active"]
    );
    let (object, _) = update("batch/Job", old, new, Target::Main);
    assert_eq!(
        (&object["status"], &object["metadata"]["generation"]),
        (&json!({}), &json!(2))
    );
}

#[test]
fn tables_show_how_far_jobs_are() {
    let started = json!({"startTime": "2025-01-01T01:58:00Z"});
    let cases = [
        (json!({"completions": 3}), json!({}), ["Running", "0/3", ""]),
        (
            json!({}),
            over(started.clone(), json!({"succeeded": 1})),
            ["Running", "1/1", "2m"],
        ),
        (
            json!({"parallelism": 4}),
            json!({"succeeded": 2}),
            ["Running", "2/1 of 4", ""],
        ),
        (
            json!({"completions": 1}),
            over(
                started.clone(),
                json!({"succeeded": 1, "completionTime": "2025-01-01T01:58:05Z", "conditions": [{"type": "Complete", "status": "True"}]}),
            ),
            ["Complete", "1/1", "5s"],
        ),
        (
            json!({"completions": 1}),
            json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
            ["Suspended", "0/1", ""],
        ),
    ];
    for (spec, status, expected) in cases {
        let row = cells("batch/Job", over(job(spec), json!({"status": status})));
        assert_eq!(row[1..4], expected);
        assert_eq!(row[4..], ["5h", "a", "busybox:1", "<none>"]);
    }
    let mut value = cron_job(json!({"timeZone": "Europe/Berlin", "suspend": true}));
    assert_eq!(
        cells("batch/CronJob", value.clone()),
        [
            "tick",
            "*/5 * * * *",
            "Europe/Berlin",
            "True",
            "0",
            "<none>",
            "5h",
            "a",
            "busybox:1",
            "<none>"
        ]
    );
    value["status"] = json!({"active": [{"name": "tick-1"}], "lastScheduleTime": "2025-01-01T01:55:00Z"});
    let row = cells("batch/CronJob", value);
    assert_eq!((row[4].as_str(), row[5].as_str()), ("1", "5m"));
}

#[test]
fn cron_jobs_are_filled_in_and_checked() {
    let object = json_of(created("batch/CronJob", cron_job(json!({}))).as_ref());
    let spec = &object["spec"];
    for (field, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!(
        job["backoffLimit"],
        Value::Null,
        "the job's own defaults come with the job"
    );
    assert_eq!(job["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    let cases = [
        (json!({}), vec![]),
        (
            json!({"schedule": "", "concurrencyPolicy": "Queue", "startingDeadlineSeconds": -1}),
            vec![
                "spec.schedule: Required value",
                "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.concurrencyPolicy: Unsupported value: \"Queue\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        ),
        (
            json!({"schedule": "hourly", "timeZone": "Mars/Base"}),
            vec![
                "spec.schedule: Invalid value: \"hourly\": expected exactly 5 fields, found 1: [hourly]",
                "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
            ],
        ),
        (
            json!({"jobTemplate": {"spec": {"manualSelector": true}}}),
            vec![
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("batch/CronJob", cron_job(spec.clone())),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn a_job_that_has_ended_stays_ended() {
    let path = Target::Subresource(Subresource::Status);
    let (start, later) = ("2025-01-01T00:00:00Z", "2025-01-01T00:01:00Z");
    let true_ = |types: &[&str]| {
        let all = types.iter().map(|type_| json!({"type": type_, "status": "True"}));
        json!(all.collect::<Vec<Value>>())
    };
    let complete = json!({"conditions": true_(&["SuccessCriteriaMet", "Complete"]), "startTime": start,
        "completionTime": later, "succeeded": 1});
    let failed = json!({"conditions": true_(&["FailureTarget", "Failed"]), "startTime": start, "failed": 2});
    let indexed =
        json!({"completionMode": "Indexed", "completions": 5, "parallelism": 2, "backoffLimitPerIndex": 1});
    // The job's spec, what its status was, what it is to be, and what is wrong with that.
    let cases: Vec<(Value, Value, Value, Vec<&str>)> = vec![
        (json!({}), json!({}), complete.clone(), vec![]),
        (json!({}), json!({}), failed.clone(), vec![]),
        (
            json!({}),
            json!({}),
            json!({"conditions": true_(&["Complete", "Failed", "FailureTarget"]), "active": 1, "terminating": 1}),
            vec![
                "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
                "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
                "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
            ],
        ),
        (
            json!({}),
            json!({"startTime": later}),
            json!({"startTime": later, "completionTime": start, "completedIndexes": "1", "failedIndexes": "2",
                "uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}}),
            vec![
                "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
                "status.completionTime: Invalid value: \"2025-01-01T00:00:00Z\": cannot set completionTime when there is no Complete=True condition",
                "status.completionTime: Invalid value: \"2025-01-01T00:00:00Z\": completionTime cannot be set before startTime",
                "status.completedIndexes: Invalid value: \"1\": error parsing completedIndexes: too large index: \"1\"",
                "status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion mode",
                "status.failedIndexes: Invalid value: \"2\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            ],
        ),
        (
            indexed.clone(),
            json!({}),
            json!({"completedIndexes": "0-2", "failedIndexes": "1,9"}),
            vec![
                "status.failedIndexes: Invalid value: \"1,9\": error parsing failedIndexes: too large index: \"9\"",
                "status.failedIndexes: Invalid value: \"1,9\": failedIndexes and completedIndexes overlap at index: 1",
            ],
        ),
        (
            json!({}),
            complete.clone(),
            json!({"startTime": start, "conditions": []}),
            vec![
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ],
        ),
        (
            json!({}),
            failed,
            json!({"conditions": true_(&["FailureTarget", "Failed", "SuccessCriteriaMet"]), "failed": 1}),
            vec![
                "status.startTime: Required value: startTime is required for finished job",
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.startTime: Required value: startTime cannot be removed for unsuspended job",
            ],
        ),
        (
            json!({}),
            complete.clone(),
            over(complete, json!({"completionTime": "2025-01-01T00:02:00Z"})),
            vec![
                "status.completionTime: Invalid value: \"2025-01-01T00:02:00Z\": completionTime cannot be mutated",
            ],
        ),
    ];
    for (spec, before, after, expected) in cases {
        let old = json_of(created("batch/Job", job(spec)).as_ref());
        let with = |status: &Value| {
            let mut job = old.clone();
            job["status"] = status.clone();
            job
        };
        let (_, errors) = update("batch/Job", with(&before), with(&after), path);
        assert_eq!(errors, expected, "{after}");
    }
}

#[test]
fn the_pods_of_an_indexed_job_must_be_able_to_have_names() {
    let value = over(
        job(json!({"completionMode": "Indexed", "completions": 10})),
        json!({"metadata": {"name": "a".repeat(62)}}),
    );
    let long = "a".repeat(62);
    assert_eq!(
        create_errors("batch/Job", value),
        [format!(
            "metadata.name: Invalid value: \"{long}\": will not able to create pod with invalid DNS label: {long}-9"
        )]
    );
}

#[test]
fn a_suspended_job_may_be_told_anew_where_it_runs_and_what_it_needs() {
    let spec = |suspend: bool| job(json!({"suspend": suspend}));
    let container =
        |cpu: &str| json!([{"name": "a", "image": "busybox:1", "resources": {"requests": {"cpu": cpu}}}]);
    let zones = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}});
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {}}]}});
    let suspended = json!({"type": "Suspended", "status": "True"});
    let started = |active: i32| json!({"startTime": "2025-01-01T00:00:00Z", "active": active, "conditions": [suspended.clone()]});
    // Whether it is suspended, its status, what of its pods changes, and whether that may be.
    for (suspend, status, pod, may) in [
        (true, json!({}), json!({"containers": container("2")}), true),
        (true, json!({}), json!({"affinity": zones.clone()}), true),
        (true, json!({}), json!({"affinity": apart}), false),
        (true, started(0), json!({"containers": container("2")}), true),
        (true, started(1), json!({"containers": container("2")}), false),
        (false, json!({}), json!({"affinity": zones}), false),
    ] {
        let mut old = json_of(created("batch/Job", spec(suspend)).as_ref());
        old["status"] = status;
        let new = over(old.clone(), json!({"spec": {"template": {"spec": pod}}}));
        let (_, errors) = update("batch/Job", old, new.clone(), Target::Main);
        assert_eq!(errors.is_empty(), may, "{new} {errors:?}");
    }
}

#[test]
fn an_old_schedule_keeps_its_zone() {
    let old = cron_job(json!({"schedule": "TZ=UTC 0 0 * * *"}));
    let both = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
    for (change, expected) in [
        (json!({"suspend": true}), vec![]),
        (
            json!({"timeZone": "UTC"}),
            vec![format!(
                "spec.schedule: Invalid value: \"TZ=UTC 0 0 * * *\": {both}"
            )],
        ),
    ] {
        let new = over(old.clone(), json!({"spec": change}));
        let (_, errors) = update("batch/CronJob", old.clone(), new, Target::Main);
        assert_eq!(errors, expected);
    }
    let (_, errors) = update(
        "batch/CronJob",
        cron_job(json!({"timeZone": "Old/Zone"})),
        cron_job(json!({"timeZone": "Old/Zone", "suspend": true})),
        Target::Main,
    );
    assert_eq!(
        errors,
        Vec::<String>::new(),
        "a zone that did not change is not looked up"
    );
}
