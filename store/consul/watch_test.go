package consul_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestQueriesOfAYoungProcessAreShort: what a killed process leaves in Consul ends soon, unless its answer is long.
func TestQueriesOfAYoungProcessAreShort(t *testing.T) {
	for _, tt := range []struct {
		name     string
		records  int
		min, max time.Duration
	}{
		{"few records", 8, 10 * time.Second, 11 * time.Second},
		{"many records", 9, 5 * time.Minute, 330 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var waited atomic.Int64
			s := answering(t, patience, func(w http.ResponseWriter, r *http.Request) {
				index := 1
				if wait := r.URL.Query().Get("wait"); wait != "" {
					d, err := time.ParseDuration(wait)
					if err != nil {
						t.Error(err)
					}
					waited.Store(int64(d))
					index = 2
				}
				w.Header().Set("X-Consul-Index", fmt.Sprint(index))
				all := make([]string, tt.records)
				for i := range all {
					all[i] = fmt.Sprintf(`{"Key":"a/%d","ModifyIndex":1}`, i)
				}
				fmt.Fprintf(w, "[%s]", strings.Join(all, ","))
			})
			_, index, err := s.Watch(t.Context(), "a/", 0)
			if err == nil {
				_, _, err = s.Watch(t.Context(), "a/", index)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(waited.Load()); got < tt.min || got > tt.max {
				t.Errorf("the query waits for %v, want %v to %v", got, tt.min, tt.max)
			}
		})
	}
}
