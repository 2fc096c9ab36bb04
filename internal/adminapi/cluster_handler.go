package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// operateCluster adds what a ClusterOperator answers.
func operateCluster(mux *http.ServeMux, o ClusterOperator) {
	mux.HandleFunc("GET "+pathCluster, func(w http.ResponseWriter, r *http.Request) {
		s, err := o.Cluster(r.Context())
		s.Members = orEmpty(s.Members)
		finish(w, err, clusterAnswer{Schema, s})
	})
	mux.HandleFunc("POST "+pathCluster+"/init", taking(o.InitCluster))
	mux.HandleFunc("POST "+pathCluster+"/join", taking(o.JoinCluster))
	mux.HandleFunc("POST "+pathCluster+"/leave", taking(func(ctx context.Context, r leaveRequest) error {
		return o.LeaveCluster(ctx, r.Force)
	}))
	mux.HandleFunc("POST "+pathCluster+"/lock", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.SetLocked(r.Context(), true), status{"ok"})
	})
	mux.HandleFunc("POST "+pathCluster+"/unlock", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.SetLocked(r.Context(), false), status{"ok"})
	})
	mux.HandleFunc("POST "+pathTokens, func(w http.ResponseWriter, r *http.Request) {
		var request TokenRequest
		if !decoded(w, r, &request) {
			return
		}
		made, err := o.CreateToken(r.Context(), request)
		finish(w, err, tokenAnswer{Schema, made})
	})
	mux.HandleFunc("GET "+pathTokens, func(w http.ResponseWriter, r *http.Request) {
		all, err := o.Tokens(r.Context())
		finish(w, err, tokenList{Schema, orEmpty(all)})
	})
	mux.HandleFunc("DELETE "+pathTokens+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		finish(w, o.RemoveToken(r.Context(), r.PathValue("id")), status{"ok"})
	})
}

// taking is a handler of what has a request and no answer.
func taking[T any](do func(context.Context, T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request T
		if decoded(w, r, &request) {
			finish(w, do(r.Context(), request), status{"ok"})
		}
	}
}

// decoded reads a request's body, or answers that it is not JSON. No body is the zero request.
func decoded(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into)
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	reply(w, http.StatusBadRequest, failure{Error: "the request is not JSON: " + err.Error()})
	return false
}
