"""A minimal valid object of every kind: what is in it beside apiVersion, kind and metadata.

The key is GROUP/KIND. A kind that the server serves and that is missing here fails the tests.
"""

import base64

CERTIFICATE_REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWk1JR0FBZ0VBTUI0eERUQUxCZ05WQkFvTUJIUmxZVzB4RFRB"
    "TEJnTlZCQU1NQkdwaGJtVXdXVEFUQmdjcQpoa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVFSL2ovRFgxclhORWN3WTlCa0VSaHg0"
    "Wjh4SGg4VVpvWG1CdGVtCi9ueFFKN0EyeTBpTGF2UEdRaDNuT0p4aURaaTBBNlNUeWhvUnBDVzhWZS9LR21Jd29BQXdDZ1lJS29a"
    "SXpqMEUKQXdJRFNBQXdSUUlnSmRYUzlyczRxZ09rckNISUYybi9OV25xTGtTamtQUDZ3NW1mWWFwSyt6WUNJUUNqZ1g3dgp5K1J0"
    "UzZvR05Ta3hhM2p4NnhpaGZXeDh2TG5QT2VFYVVGVC9uQT09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo="
)
CERTIFICATE = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJlVENDQVIrZ0F3SUJBZ0lVYnZiQmNaeUZYMElhM0JpY3k0bWJuaitnbFpR"
    "d0NnWUlLb1pJemowRUF3SXcKRVRFUE1BMEdBMVVFQXd3R2JtOWliMlI1TUNBWERUSTJNVEV5TVRFeE1qVXpNVm9ZRHpJeE1qWXhN"
    "REk0TVRFeQpOVE14V2pBUk1ROHdEUVlEVlFRRERBWnViMkp2Wkhrd1dUQVRCZ2NxaGtqT1BRSUJCZ2dxaGtqT1BRTUJCd05DCkFB"
    "VHY4V2p1ZExHUGV2VGtmY1JsYXg5bG9jSGU1WFhnNUJuTnQ0N3Z1UFFZWkI0bG9iYThoWS9mb3JOMkgyVjEKK2xveEJpeXFGaXov"
    "Q2t3Q3RmOVZNZXk1bzFNd1VUQWRCZ05WSFE0RUZnUVVxd0Q5aktyK0dGMjBtNkVrRWFCVApDMmxqS0o4d0h3WURWUjBqQkJnd0Zv"
    "QVVxd0Q5aktyK0dGMjBtNkVrRWFCVEMybGpLSjh3RHdZRFZSMFRBUUgvCkJBVXdBd0VCL3pBS0JnZ3Foa2pPUFFRREFnTklBREJG"
    "QWlBYVlmYWpBUkcwNGsrazFQL0R6OWh5RC9RYTlMcE0KakRycFJRdlJjRGY0aWdJaEFQN2k0MkR0RUN5SEpLWDhtcmtTT3ZnWndB"
    "RTFRek9sNXRobmFvbnVZSW9sCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
)

LABELS = {"app": "clients"}
# Nothing is started for these tables: the pods wait for a node that there is not.
POD = {
    "nodeSelector": {"clients": "nowhere"},
    "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "c", "image": "busybox"}],
}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
JOB_TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {**POD, "restartPolicy": "Never"}}
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
MATCH_RULES = [
    {"apiGroups": ["clients.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}
]
WEBHOOK = {
    "name": "hook.clients.example.com",
    "admissionReviewVersions": ["v1"],
    "sideEffects": "None",
    "clientConfig": {"url": "https://127.0.0.1:1/hook", "caBundle": CERTIFICATE},
    "rules": MATCH_RULES,
    "failurePolicy": "Ignore",
}
DEVICE_REQUEST = {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}]}

OBJECTS = {
    "/ConfigMap": {"data": {"a": "b"}},
    "/Endpoints": {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]},
    "/Event": {
        "involvedObject": {"kind": "Pod", "namespace": "{namespace}", "name": "p"},
        "reason": "Tested",
        "type": "Normal",
    },
    "/LimitRange": {"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "100Gi"}}]}},
    "/Namespace": {},
    "/Node": {},
    "/PersistentVolume": {
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "hostPath": {"path": "/tmp/nowhere"},
        }
    },
    "/PersistentVolumeClaim": {
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "resources": {"requests": {"storage": "2Gi"}},
        }
    },
    "/Pod": {"spec": POD},
    "/PodTemplate": {"template": TEMPLATE},
    "/ReplicationController": {"spec": {"replicas": 0, "selector": LABELS, "template": TEMPLATE}},
    "/ResourceQuota": {"spec": {"hard": {"count/widgets.clients.example.com": "5"}}},
    "/Secret": {"stringData": {"password": "x"}},
    "/Service": {"spec": {"selector": LABELS, "ports": [{"port": 80}]}},
    "/ServiceAccount": {},
    "admissionregistration.k8s.io/MutatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": {"resourceRules": MATCH_RULES},
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"},
                }
            ],
        }
    },
    "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding": {"spec": {"policyName": "none"}},
    "admissionregistration.k8s.io/MutatingWebhookConfiguration": {"webhooks": [WEBHOOK]},
    "admissionregistration.k8s.io/ValidatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": {"resourceRules": MATCH_RULES},
            "validations": [{"expression": "object.metadata.name != 'x'"}],
        }
    },
    "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding": {
        "spec": {"policyName": "none", "validationActions": ["Deny"]}
    },
    "admissionregistration.k8s.io/ValidatingWebhookConfiguration": {"webhooks": [WEBHOOK]},
    "apiextensions.k8s.io/CustomResourceDefinition": {
        "metadata": {"name": "widgets.clients.example.com"},
        "spec": {
            "group": "clients.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    },
    "apiregistration.k8s.io/APIService": {
        "metadata": {"name": "v1.clients.example.org"},
        "spec": {
            "group": "clients.example.org",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "none", "namespace": "default"},
        },
    },
    "apps/ControllerRevision": {"revision": 1, "data": {"a": "b"}},
    "apps/DaemonSet": {"spec": {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}},
    "apps/Deployment": {"spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": TEMPLATE}},
    "apps/ReplicaSet": {"spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": TEMPLATE}},
    "apps/StatefulSet": {
        "spec": {"replicas": 0, "serviceName": "s", "selector": {"matchLabels": LABELS}, "template": TEMPLATE}
    },
    "autoscaling/HorizontalPodAutoscaler": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}}
    },
    "batch/CronJob": {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}},
    "batch/Job": {"spec": {"suspend": True, "template": JOB_TEMPLATE}},
    "certificates.k8s.io/CertificateSigningRequest": {
        "spec": {
            "request": CERTIFICATE_REQUEST,
            "signerName": "clients.example.com/signer",
            "usages": ["client auth"],
        }
    },
    "certificates.k8s.io/ClusterTrustBundle": {"spec": {"trustBundle": base64.b64decode(CERTIFICATE).decode()}},
    "certificates.k8s.io/PodCertificateRequest": {
        "spec": {
            "signerName": "clients.example.com/signer",
            "podName": "p",
            "podUID": "1",
            "serviceAccountName": "default",
            "serviceAccountUID": "2",
            "nodeName": "none",
            "nodeUID": "3",
            "stubPKCS10Request": "".join(base64.b64decode(CERTIFICATE_REQUEST).decode().splitlines()[1:-1]),
        }
    },
    "coordination.k8s.io/Lease": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}},
    "discovery.k8s.io/EndpointSlice": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"port": 80}],
    },
    "events.k8s.io/Event": {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "clients.example.com/tests",
        "reportingInstance": "one",
        "action": "Testing",
        "reason": "Tested",
        "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "{namespace}", "name": "p"},
    },
    "flowcontrol.apiserver.k8s.io/FlowSchema": {
        "spec": {"priorityLevelConfiguration": {"name": "global-default"}, "matchingPrecedence": 9000}
    },
    "flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration": {
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}
    },
    "networking.k8s.io/IPAddress": {
        "metadata": {"name": "192.0.2.77"},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "none"}},
    },
    "networking.k8s.io/Ingress": {
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}
    },
    "networking.k8s.io/IngressClass": {"spec": {"controller": "clients.example.com/ingress"}},
    "networking.k8s.io/NetworkPolicy": {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
    "networking.k8s.io/ServiceCIDR": {"spec": {"cidrs": ["198.51.100.0/24"]}},
    "node.k8s.io/RuntimeClass": {"handler": "runc"},
    "policy/PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"none": "here"}}}},
    "rbac.authorization.k8s.io/ClusterRole": {"rules": [RULE]},
    "rbac.authorization.k8s.io/ClusterRoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    },
    "rbac.authorization.k8s.io/Role": {"rules": [RULE]},
    "rbac.authorization.k8s.io/RoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    },
    "resource.k8s.io/DeviceClass": {"spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}},
    "resource.k8s.io/DeviceTaintRule": {
        "spec": {"taint": {"key": "clients.example.com/broken", "effect": "NoSchedule"}}
    },
    "resource.k8s.io/ResourceClaim": {"spec": {"devices": DEVICE_REQUEST}},
    "resource.k8s.io/ResourceClaimTemplate": {"spec": {"spec": {"devices": DEVICE_REQUEST}}},
    "resource.k8s.io/ResourceSlice": {
        "spec": {
            "driver": "gpu.example.com",
            "nodeName": "none",
            "pool": {"name": "none", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "d0"}],
        }
    },
    "scheduling.k8s.io/PriorityClass": {"value": 1000},
    "storage.k8s.io/CSIDriver": {"spec": {"attachRequired": False}},
    "storage.k8s.io/CSINode": {"spec": {"drivers": []}},
    "storage.k8s.io/CSIStorageCapacity": {"storageClassName": "by-hand", "capacity": "1Gi"},
    "storage.k8s.io/StorageClass": {"provisioner": "clients.example.com/none"},
    "storage.k8s.io/VolumeAttachment": {
        "spec": {"attacher": "clients.example.com", "nodeName": "none", "source": {"persistentVolumeName": "none"}}
    },
    "storagemigration.k8s.io/StorageVersionMigration": {"spec": {"resource": {"group": "apps", "resource": "deployments"}}},
    "storage.k8s.io/VolumeAttributesClass": {"driverName": "clients.example.com", "parameters": {"iops": "1"}},
}

# What is only created, and answered, never kept.
REVIEWS = {
    "/Binding",
    "authentication.k8s.io/SelfSubjectReview",
    "authentication.k8s.io/TokenReview",
    "authorization.k8s.io/LocalSubjectAccessReview",
    "authorization.k8s.io/SelfSubjectAccessReview",
    "authorization.k8s.io/SelfSubjectRulesReview",
    "authorization.k8s.io/SubjectAccessReview",
}
# The server makes it up; it cannot be written.
READ_ONLY = {"/ComponentStatus"}


def minimal(group, version, kind, name, namespace=None):
    """The object of a kind, with a name, and a namespace when the kind has one."""
    body = _filled(OBJECTS[f"{group}/{kind}"], namespace or "default")
    metadata = {"name": name, "labels": dict(LABELS), **body.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    api_version = f"{group}/{version}" if group else version
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def _filled(value, namespace):
    if isinstance(value, dict):
        return {key: _filled(item, namespace) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, namespace) for item in value]
    return namespace if value == "{namespace}" else value
