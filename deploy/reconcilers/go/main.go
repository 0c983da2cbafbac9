// A reconciler that asks editwar before it writes. It keeps data.color of each ConfigMap with the label example=desired at
// "green". README.md in the parent directory explains the pattern.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// paused is the annotation that stops the reconcilers of an object. editwar's enforcer sets it, or a person.
const paused = "platform.kubevirt.io/reconcile-paused"

// decision is the part of editwar's answer that this reconciler needs.
type decision struct {
	Allowed bool      `json:"allowed"`
	Reason  string    `json:"reason"`
	RetryAt time.Time `json:"retry_at"` // Zero if the answer has null.
}

type reconciler struct {
	client.Client
	editwar *http.Client
	// logged has the objects that are not written, and "editwar" while it does not answer, so that each is logged once.
	// It has no lock, because controller-runtime has one worker by default.
	logged map[string]bool
}

func (r *reconciler) Reconcile(ctx context.Context, configMap *corev1.ConfigMap) (ctrl.Result, error) {
	// RESOURCE.GROUP/NAMESPACE/NAME, as in deployments.apps/shop/web. The core group has no name.
	object := "configmaps/" + configMap.Namespace + "/" + configMap.Name
	if configMap.Data["color"] == "green" {
		delete(r.logged, object)
		return ctrl.Result{}, nil
	}
	if configMap.Annotations[paused] == "true" {
		r.logOnce(ctx, object, "not writing: the object has the annotation "+paused)
		return ctrl.Result{}, nil // When the annotation is removed, that event starts the next attempt.
	}
	if wait, reason := r.mustWait(ctx, object); wait > 0 {
		r.logOnce(ctx, object, "not writing: "+reason)
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	delete(r.logged, object)
	ctrl.LoggerFrom(ctx).Info("writing")
	patch := client.RawPatch(types.MergePatchType, []byte(`{"data":{"color":"green"}}`))
	return ctrl.Result{}, client.IgnoreNotFound(r.Patch(ctx, configMap, patch))
}

// mustWait asks editwar whether the object may be written. It returns how long to wait, and why. Zero or less: write now.
func (r *reconciler) mustWait(ctx context.Context, object string) (time.Duration, string) {
	answer, err := r.ask(ctx, object)
	if err != nil { // Fail open: go on as if there were no editwar.
		r.logOnce(ctx, "editwar", "writing without asking, because editwar does not answer: "+err.Error())
		return 0, ""
	}
	delete(r.logged, "editwar")
	if answer.Allowed {
		return 0, ""
	}
	// A refusal is over at retry_at. editwar itself takes it back a little later, because events arrive in batches.
	return time.Until(answer.RetryAt), answer.Reason
}

// ask gets the decision on an object.
func (r *reconciler) ask(ctx context.Context, object string) (answer decision, err error) {
	url := cmp.Or(os.Getenv("EDITWAR_URL"), "http://127.0.0.1:8080") + "/api/v1/objects/" + object + "/decision"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer, err
	}
	response, err := r.editwar.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answer, errors.New(response.Status)
	}
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

func (r *reconciler) logOnce(ctx context.Context, about, message string) {
	if !r.logged[about] {
		ctrl.LoggerFrom(ctx).Info(message)
	}
	r.logged[about] = true
}

func main() {
	ctrl.SetLogger(zap.New())
	selected := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{"example": "desired"})}
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Cache:   cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.ConfigMap{}: selected}},
		Metrics: metrics.Options{BindAddress: "0"}, // No metrics in this example.
	})
	exitOn(err)
	// This client gives up after a second. It reads the token again when Kubernetes has renewed it. No file: no token.
	editwar, err := rest.HTTPClientFor(&rest.Config{Timeout: time.Second, BearerTokenFile: os.Getenv("EDITWAR_TOKEN_FILE")})
	exitOn(err)
	r := &reconciler{Client: manager.GetClient(), editwar: editwar, logged: map[string]bool{}}
	exitOn(ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Complete(reconcile.AsReconciler(r.Client, r)))
	exitOn(manager.Start(ctrl.SetupSignalHandler()))
}

func exitOn(err error) {
	if err != nil {
		ctrl.Log.Error(err, "stopped")
		os.Exit(1)
	}
}
