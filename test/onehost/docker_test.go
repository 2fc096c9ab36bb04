package onehost

import "github.com/socketplane/socketplane/test/internal/libnetwork"

// What Docker would have, by shorter names.
type (
	object   = libnetwork.Object
	docker   = libnetwork.Client
	segment  = libnetwork.Network
	endpoint = libnetwork.Endpoint
)

// id is a text as Docker's ids are.
func id(prefix string, i int) string { return libnetwork.ID(prefix, i) }

// mac is one of a number.
func mac(i int) string { return libnetwork.MAC("02:42", i) }
