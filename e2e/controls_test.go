package e2e

import (
	"os"
	"slices"
	"testing"

	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
)

// TestControls breaks every scenario on purpose, in each of the ways of
// docs/controls.md, and sees exactly those claims fail that it breaks.
func TestControls(t *testing.T) {
	if os.Getenv("HIVEPROOF_E2E") != "controls" {
		t.Skip("make e2e-controls runs it")
	}
	p := newProgram(t)
	t.Cleanup(func() {
		cmd, out := p.command("down")
		if err := cmd.Run(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	p.run(t, 0, "up")
	for _, m := range scenarios.Mutations() {
		t.Run(m.ID, func(t *testing.T) {
			p.run(t, reports.ExitFailed, "run", "--mutate", m.ID, "--output", p.output)
			result := p.result(t)
			var failed []string
			for _, c := range result.Scenarios[0].Claims {
				t.Logf("%s %s: %s", c.Verdict, c.ID, c.Reason)
				switch c.Verdict {
				case reports.Fail:
					failed = append(failed, c.ID)
				case reports.Error, reports.NotRun:
					t.Errorf("%s is %s", c.ID, c.Verdict)
				}
			}
			slices.Sort(failed)
			if want := slices.Sorted(slices.Values(m.Fails)); !slices.Equal(failed, want) {
				t.Errorf("it fails %v, it must fail %v", failed, want)
			}
		})
	}
}
