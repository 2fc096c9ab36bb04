package dockerwatch

import (
	"encoding/json"
	"testing"

	"github.com/moby/moby/api/types/events"
)

// TestEvents: an event says what it is about, as engines write it.
func TestEvents(t *testing.T) {
	for text, want := range map[string]Event{
		`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"web","type":"socketplane"}},"time":1}`: {
			Kind: KindNetwork, Action: ActionConnect, ID: "n1", Container: "c1", Driver: "socketplane"},
		`{"Type":"network","Action":"destroy","Actor":{"ID":"n1","Attributes":{"name":"web","type":"bridge"}}}`: {
			Kind: KindNetwork, Action: ActionDestroy, ID: "n1", Driver: "bridge"},
		`{"status":"start","id":"c1","Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"type":"x","container":"y"}}}`: {
			Kind: KindContainer, Action: ActionStart, ID: "c1"},
	} {
		var m events.Message
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		if got := event(m); got != want {
			t.Errorf("%s is %+v, want %+v", text, got, want)
		}
	}
}
