// The audit webhook that one would write first: net/http, encoding/json into the Kubernetes audit types, and a map of
// objects with the users who wrote to them. What editwar is compared with.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"sync"

	audit "k8s.io/apiserver/pkg/apis/audit/v1"
)

type object struct {
	Group, Resource, Namespace, Name string
}

type history struct {
	last  string
	users map[string]int
	turns int
}

type watcher struct {
	mu      sync.Mutex
	objects map[object]*history
}

var writes = map[string]bool{"create": true, "update": true, "patch": true, "delete": true}

// observe counts who writes to an object, and how often another user than the last one does.
func (w *watcher) observe(event *audit.Event) {
	if event.Stage != audit.StageResponseComplete || !writes[event.Verb] || event.ObjectRef == nil {
		return
	}
	if event.ResponseStatus == nil || event.ResponseStatus.Code >= 300 {
		return
	}
	ref := event.ObjectRef
	key := object{ref.APIGroup, ref.Resource, ref.Namespace, ref.Name}
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.objects[key]
	if h == nil {
		h = &history{users: map[string]int{}}
		w.objects[key] = h
	}
	h.users[event.User.Username]++
	if h.last != "" && h.last != event.User.Username {
		h.turns++
	}
	h.last = event.User.Username
}

func (w *watcher) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	var list audit.EventList
	if err := json.NewDecoder(request.Body).Decode(&list); err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range list.Items {
		w.observe(&list.Items[i])
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9443", "where to listen")
	cert := flag.String("cert", "", "certificate; without it plain HTTP")
	key := flag.String("key", "", "its key")
	flag.Parse()
	http.Handle("/audit", &watcher{objects: map[object]*history{}})
	if *cert == "" {
		log.Fatal(http.ListenAndServe(*listen, nil))
	}
	log.Fatal(http.ListenAndServeTLS(*listen, *cert, *key, nil))
}
