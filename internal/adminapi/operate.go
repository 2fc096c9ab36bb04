package adminapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// doctorTimeout is longer than answerTimeout: the doctor probes every host.
const doctorTimeout = 30 * time.Second

// maxRequest is the largest request body that is read, in bytes.
const maxRequest = 1 << 20

// operate adds what an Operator answers.
func operate(mux *http.ServeMux, o Operator) {
	mux.HandleFunc("GET "+pathNetworks, func(w http.ResponseWriter, r *http.Request) {
		list(w, "networks", func(each func(NetworkDetail) error) error { return o.Networks(r.Context(), each) })
	})
	mux.HandleFunc("GET "+pathNetworks+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		n, err := o.Network(r.Context(), r.PathValue("name"))
		finish(w, err, n)
	})
	mux.HandleFunc("POST "+pathNetworks, func(w http.ResponseWriter, r *http.Request) {
		var request NetworkRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
			reply(w, http.StatusBadRequest, failure{Error: "the request is not JSON: " + err.Error()})
			return
		}
		made, err := o.CreateNetwork(r.Context(), request)
		finish(w, err, made)
	})
	mux.HandleFunc("DELETE "+pathNetworks+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.RemoveNetwork(r.Context(), r.PathValue("name")), status{"ok"})
	})
	mux.HandleFunc("POST "+pathNetworks+"/{name}/attach", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.AttachNetwork(r.Context(), r.PathValue("name")), status{"ok"})
	})
	mux.HandleFunc("DELETE "+pathHosts+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.RemoveHost(r.Context(), r.PathValue("name")), status{"ok"})
	})
	mux.HandleFunc("GET "+pathEndpoints, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get(queryDetail) != "" {
			listWith(w, "endpoints", "network", func(each func(Endpoint) error) (any, error) {
				return o.Inspect(r.Context(), query.Get(queryNetwork), each)
			})
			return
		}
		list(w, "endpoints", func(each func(Endpoint) error) error {
			return o.Endpoints(r.Context(), query.Get(queryNetwork), each)
		})
	})
	mux.HandleFunc("GET "+pathDoctor, func(w http.ResponseWriter, r *http.Request) {
		all, err := o.Doctor(r.Context())
		finish(w, err, checkList{Schema, orEmpty(all)})
	})
}

func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// finish answers the body, or the error with the code that stands for its kind.
func finish(w http.ResponseWriter, err error, body any) {
	if err == nil {
		reply(w, http.StatusOK, body)
		return
	}
	code, text := http.StatusInternalServerError, err.Error()
	for kind, its := range map[error]int{
		ErrNotFound: http.StatusNotFound, ErrConflict: http.StatusConflict, ErrInvalid: http.StatusBadRequest,
	} {
		if errors.Is(err, kind) {
			code, text = its, strings.TrimPrefix(text, kind.Error()+": ")
		}
	}
	reply(w, code, failure{text})
}
