package dockerwatch

import "github.com/moby/moby/api/types/events"

// Event is what Docker says has changed. The zero Event says that anything may have: its events are heard, perhaps again, and some may have been missed.
type Event struct {
	// Kind is "network" or "container".
	Kind string
	// Action is create, destroy, connect or disconnect of a network, and create, destroy, rename, start or die of a container.
	Action string
	// ID is the network's or container's.
	ID string
	// Container is the ID of the container that a network's connect or disconnect is about.
	Container string
	// Driver is the driver of a network.
	Driver string
}

// The kinds and actions of an Event that mean something beyond that something has changed.
const (
	KindNetwork   = "network"
	KindContainer = "container"

	ActionCreate     = "create"
	ActionDestroy    = "destroy"
	ActionConnect    = "connect"
	ActionDisconnect = "disconnect"
	ActionRename     = "rename"
	ActionStart      = "start"
	actionDie        = "die"
)

func event(m events.Message) Event {
	e := Event{Kind: string(m.Type), Action: string(m.Action), ID: m.Actor.ID}
	if e.Kind == KindNetwork {
		e.Container, e.Driver = m.Actor.Attributes["container"], m.Actor.Attributes["type"]
	}
	return e
}
