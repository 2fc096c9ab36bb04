package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/probe"
)

func TestClocksVerdict(t *testing.T) {
	at := func(host string, ahead time.Duration) *clock { return &clock{host: host, ahead: ahead} }
	silent := &clock{host: "h9", err: probe.ErrNoAnswer}
	for name, tt := range map[string]struct {
		clocks []*clock
		state  string
		words  []string
	}{
		"alone":            {nil, adminapi.CheckOK, []string{"no other host"}},
		"equal":            {[]*clock{at("h2", 3*time.Millisecond), at("h3", -9*time.Millisecond)}, adminapi.CheckOK, []string{"2 other hosts", "9ms at most"}},
		"not told":         {[]*clock{silent}, adminapi.CheckUnknown, []string{"could not look", "no host tells its time"}},
		"one not told":     {[]*clock{at("h2", 0), silent}, adminapi.CheckOK, []string{"1 other hosts", "not told by h9"}},
		"a little":         {[]*clock{at("h2", -2*time.Second), at("h3", 0)}, adminapi.CheckWarn, []string{"h2 is 2s behind this host's", "timedatectl"}},
		"much":             {[]*clock{at("h2", 2*time.Second), at("h3", 5*time.Minute)}, adminapi.CheckBad, []string{"h2 is 2s ahead", "h3 is 5m0s ahead", "timedatectl"}},
		"much, then less":  {[]*clock{at("h2", -time.Hour), at("h3", 2*time.Second)}, adminapi.CheckBad, []string{"h2 is 1h0m0s behind"}},
		"wrong and silent": {[]*clock{at("h2", time.Minute), silent}, adminapi.CheckBad, []string{"not told by h9"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := clocksVerdict(tt.clocks)
			if got.State != tt.state || (got.State == adminapi.CheckOK) != (got.Cure == "") {
				t.Errorf("%+v", got)
			}
			for _, word := range tt.words {
				if !strings.Contains(got.Saw+" "+got.Cure, word) {
					t.Errorf("%+v does not say %q", got, word)
				}
			}
		})
	}
}
