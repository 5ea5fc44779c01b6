package reports

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Verdicts lists the verdicts in the order in which reports show their counts.
var Verdicts = []Verdict{Pass, Fail, Invalid, Error, NotRun, Skip}

// severity orders the verdicts for Worst. Pass is above Skip: claims that were
// skipped do not take away what the others have shown, and a scenario is only
// "skip" if nothing in it was shown at all.
var severity = map[Verdict]int{Skip: 1, Pass: 2, NotRun: 3, Invalid: 4, Fail: 5, Error: 6}

// Known says whether v is one of the verdicts above.
func (v Verdict) Known() bool { return severity[v] != 0 }

// Worst is the verdict of a whole from those of its parts: error, then fail,
// invalid, not-run, pass, skip, whichever is present first in that order. So
// all skipped is skip, and passes with skips among them are a pass. Of no parts
// at all it is not-run, and an unknown verdict among them is an error: neither
// is ever a pass.
func Worst(vs []Verdict) Verdict {
	worst := NotRun
	for i, v := range vs {
		if !v.Known() {
			return Error
		}
		if i == 0 || severity[v] > severity[worst] {
			worst = v
		}
	}
	return worst
}

// Tally computes the totals, which count claims, and the verdict of every
// scenario: the worst of its claims. A scenario that has a Reason, or no claims,
// also keeps the verdict that its runner gave it (error, skip, …) unless a claim
// is worse; a pass is never taken over like that. Unknown verdicts are counted as errors.
func (r *Result) Tally() {
	r.Totals = Totals{}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for _, c := range s.Claims {
			r.Totals.add(c.Verdict)
		}
		s.Verdict = s.verdict()
	}
}

// verdict is what Tally sets; it is the same before and after.
func (s *Scenario) verdict() Verdict {
	vs := make([]Verdict, 0, len(s.Claims)+1)
	for _, c := range s.Claims {
		vs = append(vs, c.Verdict)
	}
	given := s.Verdict != "" && s.Verdict != Pass
	if given && (s.Reason != "" || len(s.Claims) == 0) {
		vs = append(vs, s.Verdict)
	}
	return Worst(vs)
}

func (t *Totals) add(v Verdict) {
	switch v {
	case Pass:
		t.Pass++
	case Fail:
		t.Fail++
	case Skip:
		t.Skip++
	case Invalid:
		t.Invalid++
	case NotRun:
		t.NotRun++
	default:
		t.Error++
	}
}

// totals counts anew, as Tally may not have been called.
func (r *Result) totals() Totals {
	var t Totals
	for _, s := range r.Scenarios {
		for _, c := range s.Claims {
			t.add(c.Verdict)
		}
	}
	return t
}

// Of returns the count of v.
func (t Totals) Of(v Verdict) int {
	switch v {
	case Pass:
		return t.Pass
	case Fail:
		return t.Fail
	case Skip:
		return t.Skip
	case Invalid:
		return t.Invalid
	case NotRun:
		return t.NotRun
	}
	return t.Error
}

// Sum is the number of claims.
func (t Totals) Sum() int {
	return t.Pass + t.Fail + t.Skip + t.Invalid + t.Error + t.NotRun
}

// The exit codes of a run. 2, for usage and input, is given before there is a Result.
const (
	ExitPassed      = 0
	ExitFailed      = 1
	ExitLab         = 3
	ExitInterrupted = 130
)

// ExitCode is the exit code of the run, decided in this order:
//
//  1. Run.Interrupted: 130, whatever was found until then
//  2. Run.Error: 3, the lab could not do it
//  3. not finished (Run.Finished is nil): 1, what is missing is unknown
//  4. a claim or a scenario that is neither pass nor skip: 1
//  5. no claim passed, because none ran or all were skipped: 1
//  6. else 0
//
// Run.Cleanup does not change it. Tally need not have been called.
func (r *Result) ExitCode() int {
	switch {
	case r.Run.Interrupted:
		return ExitInterrupted
	case r.Run.Error != "":
		return ExitLab
	case r.Verdict() != Pass:
		return ExitFailed
	}
	return ExitPassed
}

// Verdict is that of the whole run: error if the lab failed, else the worst of
// its scenarios. An interrupted or unfinished run can be at best not-run, as
// what it did not come to is unknown. It is a pass exactly if ExitCode is 0.
func (r *Result) Verdict() Verdict {
	vs := make([]Verdict, 0, len(r.Scenarios)+2)
	for i := range r.Scenarios {
		vs = append(vs, r.Scenarios[i].verdict())
	}
	if r.Run.Error != "" {
		vs = append(vs, Error)
	}
	if r.Run.Interrupted || r.Run.Finished == nil {
		vs = append(vs, NotRun)
	}
	return Worst(vs)
}

// Headline says in one line how the run ended, such as "Failed: 2 of 14 claims
// do not hold".
func (r *Result) Headline() string {
	_, text := r.headline()
	return text
}

// headline also gives the verdict that the line is marked with: a run in which
// claims failed is headed as failed, also if there were errors besides.
func (r *Result) headline() (Verdict, string) {
	t, v := r.totals(), r.Verdict()
	counts := t.String()
	switch {
	case r.Run.Interrupted:
		return v, "Interrupted: " + counts
	case r.Run.Error != "":
		return v, "Lab error: " + counts
	case r.Run.Finished == nil:
		return v, "Unfinished: " + counts
	case t.Fail > 0:
		does := "do"
		if t.Fail == 1 {
			does = "does"
		}
		text := fmt.Sprintf("Failed: %d of %s %s not hold", t.Fail, plural(t.Sum(), "claim", "claims"), does)
		if n := t.Invalid + t.Error + t.NotRun; n > 0 {
			text += fmt.Sprintf(", %d could not be judged", n)
		}
		return Fail, text
	case v == Pass && t.Skip > 0:
		return v, fmt.Sprintf("Passed: %s, %d skipped", plural(t.Pass, "claim holds", "claims hold"), t.Skip)
	case v == Pass:
		return v, "Passed: " + plural(t.Pass, "claim holds", "claims hold")
	case t.Skip > 0 && t.Skip == t.Sum() && v == Skip:
		return v, "Nothing was shown: every claim was skipped"
	case t.Pass+t.Invalid+t.Error == 0 && v == NotRun:
		return v, "Nothing was judged: " + counts
	}
	return v, "Not proved: " + counts
}

// String lists the counts that are not zero: "12 pass, 2 fail".
func (t Totals) String() string {
	var parts []string
	for _, v := range Verdicts {
		if n := t.Of(v); n > 0 {
			parts = append(parts, plural(n, string(v), string(v)))
		}
	}
	if len(parts) == 0 {
		return "no claims"
	}
	return strings.Join(parts, ", ")
}

// NewRunID makes the ID of a run that starts at t, such as
// "20261123-045501-ab12": sorted by name they are sorted by time (UTC, to the second),
// and two of the same second differ.
func NewRunID(t time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return t.UTC().Format("20060102-150405") + "-" + hex.EncodeToString(b[:])
}
