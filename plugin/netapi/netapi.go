// Package netapi has what the drivers and package plugin share beside the types of go-plugins-helpers: answers of Docker's network protocol
// with the fields that are newer, and who sent a request.
//
// It may import go-plugins-helpers. It must not know who answers, or how an answer is sent.
package netapi

import "github.com/docker/go-plugins-helpers/network"

// JoinResponse is network.JoinResponse with DstName.
type JoinResponse struct {
	InterfaceName InterfaceName // in JSON it hides the embedded one
	network.JoinResponse
}

// InterfaceName tells how Docker finds the container's link and what it calls it in the container (moby,
// libnetwork/drivers/remote/api).
type InterfaceName struct {
	SrcName   string
	DstPrefix string
	// DstName is the name in the container. Docker Engine before 29.8 ignores it and takes DstPrefix and a number.
	DstName string `json:",omitempty"`
}
