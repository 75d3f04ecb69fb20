//! Admission is asked about every write.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_api::{KindInfo, Object, Target};
use skiff_apiserver::registry::{Admission, AdmissionRequest, DeleteOptions, Operation};
use skiff_apiserver::{ApiError, ApiResult};

use crate::server::*;

/// Remembers what it was asked, and refuses objects that are called `refused`.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

#[async_trait]
impl Admission for Recorder {
    async fn admit(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()> {
        let verb = match request.operation {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
        };
        let old = if request.old.is_some() { " over old" } else { "" };
        self.0.lock().push(format!(
            "{verb} {}/{}{old} by {}",
            request.namespace, request.name, request.user.name
        ));
        if request.name == "refused" {
            return Err(ApiError::forbidden(request.info, request.name, "by test"));
        }
        let labels = object.metadata_mut().labels.get_or_insert_default();
        labels.insert("admitted".into(), "yes".into());
        Ok(())
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        self.0.lock().push(format!("delete {}", request.name));
        if request.name == "kept" {
            return Err(ApiError::forbidden(request.info, request.name, "by test"));
        }
        Ok(())
    }

    async fn released(&self, _: &KindInfo, object: &dyn Object) {
        let name = object.metadata().name.clone().unwrap_or_default();
        self.0.lock().push(format!("released {name}"));
    }
}

#[tokio::test]
async fn admission_sees_every_write_and_what_came_of_it() {
    let admission = Arc::new(Recorder::default());
    let server = Server::with(admission.clone(), |store| store).await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    assert_eq!(read(&made)["metadata"]["labels"]["admitted"], "yes");
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &options()).await;
    assert_eq!(refused(taken).0, 409);
    let refusal = maps
        .create("ns", &bytes(&config_map("refused", "1")), &options())
        .await;
    assert_eq!(
        refused(refusal).2,
        r#"configmaps "refused" is forbidden: by test"#
    );
    maps.update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &options())
        .await
        .unwrap();
    maps.delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    create(&maps, "ns", &config_map("kept", "1")).await;
    let kept = maps
        .delete("ns", "kept", &DeleteOptions::default(), &options())
        .await;
    assert_eq!(refused(kept).0, 403);
    // A write that the cache was too old for asks again.
    let mut asked = std::mem::take(&mut *admission.0.lock());
    asked.dedup();
    assert_eq!(
        asked,
        [
            "create ns/a by test",
            "released a",
            "create ns/refused by test",
            "update ns/a over old by test",
            "delete a",
            "released a",
            "create ns/kept by test",
            "delete kept",
        ]
    );
}
