package cluster

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Consul's gossip (hashicorp/memberlist, net.go and security.go) knows one address for each node name, and takes another one for
// it only after the node has left, or 30 s after it was found dead. A host whose address has changed can't leave in good order:
// what it sends from the former address does not get out. So it says from the new one, under the cluster's gossip key, that the
// node has left; its Consul then joins from there at once.
const (
	gossipDead    = 5 // memberlist's deadMsg: with From equal to Node it means left
	gossipVersion = 1 // AES-GCM without padding
	gossipRepeats = 4 // datagrams may be lost
	gossipPause   = 150 * time.Millisecond
)

// tellLeft tells the gossip of other members that a node has left.
func tellLeft(ctx context.Context, key, node string, to []netip.AddrPort) error {
	packet, err := leftPacket(key, node, time.Now())
	if err != nil {
		return err
	}
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", "")
	if err != nil {
		return fmt.Errorf("tell other members of the former address: %w", err)
	}
	defer conn.Close()
	for i := range gossipRepeats {
		if i > 0 {
			sleep(ctx, gossipPause) // what lost one may lose the next
		}
		for _, addr := range to {
			_, _ = conn.WriteTo(packet, net.UDPAddrFromAddrPort(addr)) // who can't be reached now finds out by itself
		}
	}
	return nil
}

// leftPacket is the datagram: the key is in base64, as Consul has it. What is said counts if its incarnation is not less than the
// one that is known, and the node itself answers with a greater one. So the time is a good one.
func leftPacket(key, node string, now time.Time) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	// MessagePack: a map of three, a 32-bit number, strings of up to 255 bytes.
	text := func(b []byte, s string) []byte { return append(append(b, 0xd9, byte(len(s))), s...) }
	msg := text([]byte{gossipDead, 0x83}, "Incarnation")
	msg = binary.BigEndian.AppendUint32(append(msg, 0xce), uint32(now.Unix()))
	msg = text(text(text(text(msg, "Node"), node), "From"), node)
	packet := append([]byte{gossipVersion}, make([]byte, gcm.NonceSize())...)
	nonce := packet[1:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("gossip nonce: %w", err)
	}
	return gcm.Seal(packet, nonce, msg, nil), nil
}
