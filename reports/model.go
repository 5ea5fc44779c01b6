// Package reports holds the result model of a run ("hiveproof.result/v1") and
// the writers that render it: JSON, JUnit, HTML, Markdown and the console.
// Every writer renders from the one model, so a report can be made again later
// from result.json alone.
package reports

import (
	"time"
)

// Schema names the format of result.json. It changes only when a reader of the
// previous one would misread the new one.
const Schema = "hiveproof.result/v1"

// Verdict is the outcome of one claim, and of a scenario as a whole.
type Verdict string

// The verdicts of DESIGN.md. Only Pass is a pass: nothing unknown ever counts as one.
const (
	Pass    Verdict = "pass"    // enough trustworthy observations, all as claimed
	Fail    Verdict = "fail"    // contradicted by an observation
	Skip    Verdict = "skip"    // this provider or topology cannot show it
	Invalid Verdict = "invalid" // the measurement cannot be trusted
	Error   Verdict = "error"   // the harness or the lab broke, not the site
	NotRun  Verdict = "not-run" // selected and never started
)

// Result is the whole of one run, as result.json holds it.
type Result struct {
	Schema    string     `json:"schema"`
	Run       Run        `json:"run"`
	Lab       Lab        `json:"lab"`
	Scenarios []Scenario `json:"scenarios"`
	Totals    Totals     `json:"totals"`
}

// Run identifies the run and says how it ended.
type Run struct {
	ID       string     `json:"id"`
	Started  time.Time  `json:"started"`
	Finished *time.Time `json:"finished,omitempty"` // nil while it goes on, and after a crash
	Version  string     `json:"version"`
	Command  []string   `json:"command,omitempty"`
	// Interrupted is true when a signal or the --timeout ended the run early.
	Interrupted bool `json:"interrupted,omitempty"`
	// Error says what in the lab went wrong when the run could not do its work (exit code 3).
	Error string `json:"error,omitempty"`
	// Cleanup lists what could not be cleaned up. It is apart from the verdicts.
	Cleanup []string `json:"cleanup,omitempty"`
}

// Lab describes the machines that the run was made on.
type Lab struct {
	Provider string            `json:"provider"`
	Accel    string            `json:"accel,omitempty"` // "kvm" or "tcg"
	Hosts    []Host            `json:"hosts"`
	Versions map[string]string `json:"versions"` // component -> version: docker, kernel, qemu, image, …
	// Timings are the phases of bringing the lab up, in seconds: image, boot, swarm, …
	Timings map[string]float64 `json:"timings"`
	// Notes are what a reader must know of the lab as a whole.
	Notes []string `json:"notes,omitempty"`
}

// Host is one machine of the lab.
type Host struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Role      string `json:"role,omitempty"` // manager, worker; "leader" is a state and not kept here
	CPUs      int    `json:"cpus,omitempty"`
	MemoryMiB int    `json:"memory_mib,omitempty"`
}

// Scenario is one recipe deployed once, and what was claimed of it.
type Scenario struct {
	ID        string  `json:"id"`
	Title     string  `json:"title,omitempty"`  // the guide's section title
	Recipe    string  `json:"recipe"`           // file name of the recipe
	Verdict   Verdict `json:"verdict"`          // the worst of its claims, see Worst
	Reason    string  `json:"reason,omitempty"` // why the scenario as a whole is error or not-run
	DurationS float64 `json:"duration_s"`
	// Timings are the scenario's phases in seconds: deploy, probe, evidence, remove.
	Timings map[string]float64 `json:"timings,omitempty"`
	// Notes say where the deployment departs from the recipe.
	Notes    []string  `json:"notes,omitempty"`
	Services []Service `json:"services,omitempty"`
	Claims   []Claim   `json:"claims"`
	// Evidence lists the files of the scenario as a whole, relative to the run directory.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Service is one service of a scenario with its place on the guide's three axes.
type Service struct {
	Name    string `json:"name"`
	Image   string `json:"image"`            // as the recipe names it
	RunAs   string `json:"run_as,omitempty"` // the image that stood for it
	Balance string `json:"balance"`          // singleton, scalable, global
	Volume  string `json:"volume"`           // stateless, service, host, shared
	Publish string `json:"publish"`          // internal, mesh, one-to-one, virtual-ip
	Tasks   int    `json:"tasks,omitempty"`  // running when the probes began
}

// Claim is one judged claim.
type Claim struct {
	ID      string  `json:"id"`                // such as "mesh/source-hidden"
	Service string  `json:"service,omitempty"` // the service it was judged on
	Text    string  `json:"text,omitempty"`    // the claim as a sentence
	Guide   string  `json:"guide"`             // the guide's section
	Control bool    `json:"control,omitempty"` // judged on request although the axes do not derive it
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	// DurationS is the time its own observations took, 0 if it shared them with other claims.
	DurationS float64 `json:"duration_s,omitempty"`
	// Measurements are named figures: counts, addresses seen, shares, milliseconds.
	Measurements map[string]any `json:"measurements,omitempty"`
	// Samples are the observations that a reader should see first: those that
	// contradict the claim, else one of each kind.
	Samples  []Sample   `json:"samples,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Sample is one observation in words, for a table: who asked whom and what came back.
type Sample struct {
	Time    time.Time `json:"time"`
	Client  string    `json:"client"`           // name and address of the vantage
	Target  string    `json:"target"`           // host, address:port/protocol
	Outcome string    `json:"outcome"`          // answered, refused, timeout, …
	Seen    string    `json:"seen,omitempty"`   // source address that the container saw
	Server  string    `json:"server,omitempty"` // task and node that answered
	RTTms   float64   `json:"rtt_ms,omitempty"`
	Counter bool      `json:"counter,omitempty"` // true: this one contradicts the claim
}

// Evidence is one file under the run directory.
type Evidence struct {
	Path  string `json:"path"` // slash-separated, relative to the run directory
	Title string `json:"title"`
	Kind  string `json:"kind"` // "pcapng", "text", "json"
}

// Totals counts claims by verdict.
type Totals struct {
	Pass    int `json:"pass"`
	Fail    int `json:"fail"`
	Skip    int `json:"skip"`
	Invalid int `json:"invalid"`
	Error   int `json:"error"`
	NotRun  int `json:"not_run"`
}
