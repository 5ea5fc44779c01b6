package recipe

import "slices"

// stages are what available_on may name.
var stages = []string{"private", "staging", "production"}

// Stages are the names of a site's stages.
func Stages() []string { return slices.Clone(stages) }

// ForStage is the recipe as a stage has it: without the services that
// available_on keeps away from it, and without the drbd and nfs of volumes that
// theirs does (such a volume is then a plain one). A service or volume whose
// available_on is not known stays. Ports keep the numbers assigned to them, for
// hive-builder assigns them for all stages at once.
//
// The result shares what is the same with r; neither may be resolved anew.
func (r *Recipe) ForStage(stage string) *Recipe {
	out := *r
	out.Services = nil
	for _, s := range r.Services {
		if s.Known("available_on") && !slices.Contains(s.AvailableOn, stage) {
			continue
		}
		onStage := *s
		onStage.Volumes = nil
		for _, v := range s.Volumes {
			onStage.Volumes = append(onStage.Volumes, v.forStage(stage))
		}
		out.Services = append(out.Services, &onStage)
	}
	return &out
}

func (v *Volume) forStage(stage string) *Volume {
	out := *v
	if d := v.DRBD; d != nil && d.AvailableOn != nil && d.Known("available_on") && !slices.Contains(d.AvailableOn, stage) {
		out.DRBD = nil
	}
	if f := v.NFS; f != nil && f.AvailableOn != nil && known(f.node, "available_on") && !slices.Contains(f.AvailableOn, stage) {
		out.NFS = nil
	}
	return &out
}
