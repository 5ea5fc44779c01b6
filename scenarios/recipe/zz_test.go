package recipe
import ("testing";"strings";"time";"math/rand")
func TestZZ(t *testing.T){
 frag:=[]string{"a","a: ","a: b\n","- ","- a\n","? ","? a\n: b\n",": ",",","[","]","{","}","{a: b},","[a],","'","\"","'a'","\"a\" ","\\","|\n","a: |\n b\n","a: >\n  b\n","#","# a\n"," #a\n","&a ","*a ","*a, ","!a ","!!str ","%","%YAML 1.2\n","---\n","...\n","\n"," ","\t","\r","\r\n","\n ","<<: ","<<: *a\n","~","~,","1,","1 ","0x","é","日: ","`","@","a\n","a\n\n","'a\n","\"\\n","\"\\u0041","x: [\n","x:\n","x:\n - ","- - \n", "- a: b\n","a,b: c,", "\"a\": b, ","? a, "}
 r:=rand.New(rand.NewSource(1))
 pre:=[]string{"","x: [","x: {","x: \"","x: '","x: |\n ","x: ","- ","plugin: hive_services\nservices:\n  a:\n    image: &a b\n    dns: ["}
 worst:=time.Duration(0)
 try:=func(p,f string){
  s:=p+strings.Repeat(f,60000/len(f)); if len(s)>maxBytes {s=s[:maxBytes]}
  st:=time.Now(); _,err:=Parse("f",[]byte(s)); d:=time.Since(st)
  if d>500*time.Millisecond { e:=""; if err!=nil{e=err.Error()}; if len(e)>120{e=e[:120]}; t.Logf("%v pre=%q frag=%q err=%s",d,p,f,e)}
  if d>worst{worst=d}
 }
 for _,p:=range pre{ for _,f:=range frag{ try(p,f)}}
 for i:=0;i<1200;i++{ n:=1+r.Intn(4); f:=""; for j:=0;j<n;j++{f+=frag[r.Intn(len(frag))]}; try(pre[r.Intn(len(pre))],f)}
 t.Log("worst",worst)
}
