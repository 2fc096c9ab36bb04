package vswitch

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/ovn-org/libovsdb/ovsdb"
)

// TestGeneratedIsCurrent compares the generated schema with the file that it is cut from, and the
// generated structs with the schema: a changed vswitch.ovsschema, a changed list of columns or a
// hand-edited struct is found without building modelgen.
func TestGeneratedIsCurrent(t *testing.T) {
	text, err := os.ReadFile("vswitch.ovsschema")
	if err != nil {
		t.Fatal(err)
	}
	var whole, generated ovsdb.DatabaseSchema
	if err := json.Unmarshal([]byte(schema), &generated); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	if generated.Version != whole.Version {
		t.Errorf("generated from version %s, the file is %s", generated.Version, whole.Version)
	}
	structs := map[string]any{OpenvSwitchTable: OpenvSwitch{}, BridgeTable: Bridge{}, PortTable: Port{}, InterfaceTable: Interface{}}
	if len(structs) != len(generated.Tables) {
		t.Errorf("%d tables are generated, %d are known here", len(generated.Tables), len(structs))
	}
	for name, row := range structs {
		got, want := generated.Tables[name], whole.Tables[name]
		columns := map[string]*ovsdb.ColumnSchema{}
		fields := reflect.TypeOf(row)
		for i := range fields.NumField() {
			if tag := fields.Field(i).Tag.Get("ovsdb"); tag != "_uuid" {
				columns[tag] = want.Columns[tag]
			}
		}
		if !reflect.DeepEqual(got.Columns, columns) || !reflect.DeepEqual(got.Indexes, want.Indexes) {
			t.Errorf("table %s differs from vswitch.ovsschema: run go generate ./ovsctl/vswitch", name)
		}
	}
}
