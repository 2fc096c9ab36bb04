package adminapi

import (
	"context"
	"net/http"
)

// Starter is what answers while an agent can't start yet.
type Starter interface {
	Agent
	Supporter
	// Doctor tells why.
	Doctor(ctx context.Context) ([]Check, error)
}

// Starting answers for an agent that can't start yet: how it does, the doctor, and what a bug report needs. All else is refused with
// 503 and what Ready says.
func Starting(s Starter) http.Handler {
	mux := http.NewServeMux()
	health(mux, s)
	support(mux, s)
	mux.HandleFunc("GET "+pathDoctor, func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Doctor(r.Context())
		finish(w, err, checkList{Schema, orEmpty(all)})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		text := "the agent has just started: repeat the command"
		if err := s.Ready(r.Context()); err != nil {
			text = err.Error()
		}
		reply(w, http.StatusServiceUnavailable, failure{text})
	})
	return timed(mux)
}
