package hostlink

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FuzzAttributes: attributes are those that the library finds, and what is none is an end.
func FuzzAttributes(f *testing.F) {
	req := settleRequest(testVeth(), true)
	f.Add(req.Serialize()[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:])
	f.Add([]byte{4, 0, 1, 0, 3, 0, 0, 0})
	f.Add([]byte{255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b)&^(unix.RTA_ALIGNTO-1)] // the library wants whole words
		want, err := nl.ParseRouteAttr(b)
		i := 0
		whole := attributes(b, func(kind uint16, value []byte) {
			if err == nil && (i >= len(want) || want[i].Attr.Type != kind || !bytes.Equal(want[i].Value, value)) {
				t.Fatalf("attribute %d is %d: %x", i, kind, value)
			}
			i++
		})
		if whole != (err == nil) || whole && i != len(want) {
			t.Fatalf("%d attributes, whole: %t; the library: %d, %v", i, whole, len(want), err)
		}
	})
}
