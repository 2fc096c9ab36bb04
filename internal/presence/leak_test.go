package presence

import (
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }
