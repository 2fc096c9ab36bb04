package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// naFlags are the solicited and override flags of a neighbour advertisement
// (RFC 4861, section 4.4), in its 32-bit word of flags.
const naFlags = 0x60000000

// targetOption is the type of the target link-layer address option (RFC 4861,
// section 4.6.1).
const targetOption = 2

// advertisePriority is the priority in TableAdvertise.
const advertisePriority = 100

// baseAdvertise ends what TableNeighbour began; only its answers come here. This
// is a table of its own because the switch judges a flow's actions by what the
// flow matches: where a solicitation is matched, it refuses to set the fields of
// an advertisement. The target stays as it is, and so does the hop limit, which
// receivers insist on being 255.
func baseAdvertise(b *builder) {
	b.add(openflow.Flow{
		Table: TableAdvertise, Priority: advertisePriority,
		Match: match(nd(icmpNeighbourAdvert)),
		Actions: []openflow.Action{
			set(openflow.U8(openflow.NDOptionsType, targetOption)),
			set(openflow.U32(openflow.NDReserved, naFlags)),
			openflow.Move{Src: openflow.EthSrc, Dst: openflow.NDTLL},
			openflow.Output{Port: openflow.PortIn},
		},
	})
}
