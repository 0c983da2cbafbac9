//! `kubectl editwar` with a real kubectl and a real API server that proxies to the server.

use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Output};

use serde_json::json;

use crate::envtest::{ApiServer, scratch};
use crate::require;
use crate::serve::Server;

/// Returns an address of this machine that is not loopback, since the API server does not proxy to loopback.
fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent; the kernel only selects a route.
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// Returns a Service as in the manifests, and a pod behind it that is a process of this machine, since the API server
/// only proxies to pod addresses.
fn service(ip: IpAddr, port: u16) -> String {
    let metadata = |name: &str| json!({"name": name, "namespace": "editwar", "labels": {"app.kubernetes.io/name": "editwar", "kubernetes.io/service-name": "editwar"}});
    let pod = json!({"kind": "Pod", "namespace": "editwar", "name": "editwar-0"});
    let ports = json!([{"name": "admin", "port": port}]);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "editwar"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata("editwar-0"), "spec": {"containers": [{"name": "editwar", "image": "editwar"}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("editwar"), "spec": {"ports": [{"name": "webhook", "port": 8443}, {"name": "admin", "port": 8080, "targetPort": port}]}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata("editwar"), "subsets": [{"addresses": [{"ip": ip, "targetRef": pod}], "ports": ports}]},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("editwar-1"), "addressType": "IPv4", "endpoints": [{"addresses": [ip], "conditions": {"ready": true}, "targetRef": pod}], "ports": ports},
    ]})
    .to_string()
}

fn kubectl_editwar(bin: &std::path::Path, args: &[&str]) -> Output {
    Command::new(bin.join("kubectl-editwar")).args(args).env_clear().output().unwrap()
}

#[test]
fn the_plugin_is_editwar_under_another_name_and_says_so_if_that_is_missing() {
    let bin = scratch("plugin-alone");
    std::fs::hard_link(env!("CARGO_BIN_EXE_kubectl-editwar"), bin.join("kubectl-editwar")).unwrap();
    let alone = kubectl_editwar(&bin, &["--help"]);
    let error = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(2), "{error}");
    assert!(error.contains("must be in the same directory as this plugin"), "{error}");
    // Under any name, by which a link may call it.
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_editwar"), bin.join("editwar")).unwrap();
    std::os::unix::fs::symlink("kubectl-editwar", bin.join("other")).unwrap();
    for name in ["kubectl-editwar", "other"] {
        let help = Command::new(bin.join(name)).arg("--help").env_clear().output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(help.status.success() && text.contains("Usage: kubectl editwar"), "{text}");
    }
    // And the binary by itself is not the plugin.
    let own = Command::new(bin.join("editwar")).arg("--help").env_clear().output().unwrap();
    assert!(String::from_utf8_lossy(&own.stdout).contains("Usage: editwar"));
}

#[test]
fn kubectl_editwar_queries_the_server_in_the_cluster() {
    let Some(ip) = address().filter(IpAddr::is_ipv4) else {
        return require::skip("network", "this machine has no IPv4 address but loopback");
    };
    let Some(api) = ApiServer::start(None) else { return };
    let server = Server::start(&["--listen", &format!("{ip}:0"), "--set", "admin.allow_insecure=true"]);
    server.post_log("hpa-vs-applier");
    let local = Server::start(&[]);
    local.post_log("hpa-vs-applier");
    api.apply("admin", &service(ip, server.admin_port()));
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}).to_string();
    api.kubectl(
        "admin",
        &["patch", "pod/editwar-0", "-n", "editwar", "--subresource=status", "--type=merge", "-p", &status],
    );

    let bin = scratch("plugin");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubectl-editwar"), bin.join("kubectl-editwar")).unwrap();
    std::os::unix::fs::symlink("kubectl-editwar", bin.join("kubectl_complete-editwar")).unwrap();
    let kubectl = |user: &str, args: &[&str]| -> Output {
        let command = Command::new(api.binary("kubectl"))
            .args(args)
            .env_clear()
            .env("PATH", &bin)
            .env("HOME", &bin)
            .env("KUBECONFIG", api.kubeconfig(user))
            .output();
        command.unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

    let who = kubectl("alice", &["editwar", "who", "deployment/web", "-n", "shop"]);
    let said = text(&who.stdout);
    assert!(who.status.code() == Some(1) && said.contains("spec.replicas"), "{said}{}", text(&who.stderr));
    let all = kubectl("alice", &["editwar", "-A"]);
    assert!(all.status.code() == Some(1) && text(&all.stdout).contains("shop/web"), "{all:?}");
    let wars = kubectl("alice", &["editwar", "wars", "-n", "shop", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&wars.stdout).unwrap();
    assert_eq!(report["wars"][0]["object"]["name"], "web");

    // The context's namespace is `default`, but all namespaces are searched.
    let all = kubectl("alice", &["editwar"]);
    assert!(all.status.code() == Some(1) && text(&all.stdout).contains("shop/web"), "{all:?}");
    let who = kubectl("alice", &["editwar", "who", "deployment/web"]);
    assert!(who.status.code() == Some(1) && text(&who.stdout).contains("spec.replicas"), "{who:?}");
    // An unknown namespace is an error, not an all-clear.
    let elsewhere = kubectl("alice", &["editwar", "-n", "shpo"]);
    let said = text(&elsewhere.stdout);
    assert!(elsewhere.status.code() == Some(2) && said.contains("did you mean \"shop\"?"), "{said}");

    // kubectl's flags, after the command.
    let config = api.kubeconfig("bob").display().to_string();
    let named = kubectl("alice", &["editwar", "wars", "-A", "--kubeconfig", &config, "--context", "t"]);
    assert_eq!(named.status.code(), Some(1), "{}", text(&named.stderr));
    let who = ["editwar", "who", "deployment/web", "--kubeconfig", &config, "--context", "t"];
    let said = text(&kubectl("alice", &who).stdout);
    assert!(said.contains("kubectl --context t annotate deployments.apps web -n shop"), "{said}");
    assert!(said.contains("kubectl editwar who deployments.apps/web -n shop --context t"), "{said}");
    let unknown = kubectl("alice", &["editwar", "--context", "nowhere"]);
    assert!(unknown.status.code() == Some(2) && text(&unknown.stderr).contains("nowhere"), "{unknown:?}");

    // Without permissions, the API server's response is reported.
    let refused = kubectl("system:serviceaccount:editwar:editwar", &["editwar", "-A"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("403") && said.contains("services/proxy"), "{said}");
    assert!(said.contains("--port-forward"), "{said}");

    // kubectl completes the plugin's commands.
    let completed = text(&kubectl("alice", &["__complete", "editwar", "wh"]).stdout);
    assert!(completed.starts_with("who\n"), "{completed}");
    let completed = text(&kubectl("alice", &["__complete", "editwar", "who", "-n", "shop", ""]).stdout);
    assert!(completed.starts_with("deployment/web\n") && completed.contains(":4"), "{completed}");

    // Port forwarding: since there is no kubelet, a script prints what kubectl would print.
    let forwarding_to = |port: u16| {
        let script = format!(
            "#!/bin/sh\necho \"$@\" > '{}/asked'\necho 'Forwarding from 127.0.0.1:{port} -> {port}'\nexec /bin/sleep 60\n",
            bin.display()
        );
        std::fs::write(bin.join("kubectl"), script).unwrap();
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join("kubectl"), rights).unwrap();
    };
    forwarding_to(local.admin_port());
    let forwarded = kubectl("alice", &["editwar", "-A", "--port-forward"]);
    assert_eq!(forwarded.status.code(), Some(1), "{}", text(&forwarded.stderr));
    let asked = std::fs::read_to_string(bin.join("asked")).unwrap();
    assert_eq!(
        asked.trim(),
        "port-forward --address=127.0.0.1 -n editwar --pod-running-timeout=5s service/editwar :8080"
    );
    // With TLS and authentication, as in the manifests, a port is forwarded automatically, and the kubeconfig's token
    // is sent.
    let certs = bin.join("certs").display().to_string();
    let made = kubectl_editwar(&bin, &["setup", "certs", &certs]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(bin.join("tokens"), "token-alice alice\n").unwrap();
    let tls = format!("admin.tls={{cert: '{certs}/server.crt', key: '{certs}/server.key'}}");
    let tokens = format!("admin.auth.token_file='{}'", bin.join("tokens").display());
    let guarded = Server::start(&["--set", &tls, "--set", &tokens]);
    guarded.post_log("hpa-vs-applier");
    forwarding_to(guarded.admin_port());
    let https = r#"[{"op": "add", "path": "/spec/ports/1/appProtocol", "value": "https"}]"#;
    api.kubectl("admin", &["patch", "service", "editwar", "-n", "editwar", "--type=json", "-p", https]);
    let known = kubectl("alice", &["editwar", "-A"]);
    assert_eq!(known.status.code(), Some(1), "{}", text(&known.stderr));
    let stranger = kubectl("bob", &["editwar", "-A"]);
    assert!(stranger.status.code() == Some(2) && text(&stranger.stderr).contains("401"), "{}", text(&stranger.stderr));

    // The error message of the real kubectl is reported.
    std::fs::remove_file(bin.join("kubectl")).unwrap();
    std::os::unix::fs::symlink(api.binary("kubectl"), bin.join("kubectl")).unwrap();
    let failed = kubectl("alice", &["editwar", "-A", "--port-forward"]);
    let said = text(&failed.stderr);
    assert!(failed.status.code() == Some(2) && said.contains("kubectl port-forward: "), "{said}");

    // The Service's address is used in the webhook kubeconfig.
    let webhook = kubectl("alice", &["editwar", "setup", "webhook", "--certs", &certs]);
    let ip = api.kubectl("alice", &["get", "service", "editwar", "-n", "editwar", "-o", "jsonpath={.spec.clusterIP}"]);
    let said = text(&webhook.stdout);
    assert!(said.contains(&format!("server: https://{ip}:8443/audit\n")), "{said}{}", text(&webhook.stderr));
}
