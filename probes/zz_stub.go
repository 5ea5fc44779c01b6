package probes

import "time"

func NotSticky(visits []Visit, tasks []string) Judgement                     { return Judgement{} }
func Sticky(visits []Visit, tasks []string) Judgement                        { return Judgement{} }
func StickyAnyDoor(visits []Visit, doors []Door, tasks []string) Judgement   { return Judgement{} }
func ForwardedFor(visits []Visit) Judgement                                  { return Judgement{} }
func SourceIsLB(visits []Visit, expected []Labelled, guide string) Judgement { return Judgement{} }
func ReloadInPlace(r Reload) Judgement                                       { return Judgement{} }
func Scales(s Scaling) Judgement                                             { return Judgement{} }
func SurvivesLoss(l Loss, limit time.Duration) Judgement                     { return Judgement{} }
func FallsBack(f Fallback) Judgement                                         { return Judgement{} }
func ResolvesToTasks(r Resolution) Judgement                                 { return Judgement{} }
func InternalRange(p Published) Judgement                                    { return Judgement{} }
func ViewsDiffer(views []View) Judgement                                     { return Judgement{} }
func ViewsSame(views []View) Judgement                                       { return Judgement{} }
