"""Calls that cannot work, one a line: `command words => what its sentence names`, parts divided by ` | `.

The first word is a module that `python -m` runs; words in <> are those of `bad_workspace.PLACES`.
"""

from __future__ import annotations

import shlex

from tests.cli.bad_workspace import PLACES

EDIT = """
insightedit nonsense => nonsense
insightedit --nonsense => --nonsense
insightedit edit => IMAGE
insightedit edit photo.png => instruction
insightedit edit photo.png "make it red" --nonsense 3 => --nonsense
insightedit edit photo.png "make it red" extra => extra
insightedit edit missing.png "make it red" => missing.png
insightedit edit no/such/photo.png "make it red" => no/such/photo.png
insightedit edit empty.png "make it red" => empty.png
insightedit edit words.png "make it red" => words.png
insightedit edit cut.png "make it red" => cut.png
insightedit edit vast.png "make it red" => vast.png
insightedit edit vector.png "make it red" => vector.png
insightedit edit folder.png "make it red" => folder.png
insightedit edit album_empty "make it red" => album_empty
insightedit edit text_only "make it red" => text_only
insightedit edit pipe.png "make it red" => pipe.png
insightedit edit loop.png "make it red" => loop.png
insightedit edit loop "make it red" => loop
insightedit edit broken.png "make it red" => broken.png
insightedit edit <LONG_NAME> "make it red" => nnnn
insightedit edit photo.png/inside.png "make it red" => photo.png
insightedit edit photo.png "" => instruction
insightedit edit photo.png "   " => instruction
insightedit edit photo.png <INVISIBLE> => instruction
insightedit edit photo.png <LONG_TEXT> => instruction | characters
insightedit edit photo.png <SURROGATE> => instruction
insightedit edit "" "make it red" => picture
insightedit edit photo.png "make it red" -o photo.png => photo.png
insightedit edit photo.png "make it red" -o out.docx => out.docx
insightedit edit photo.png "make it red" -o out => out
insightedit edit photo.png "make it red" -o no/out.png => no
insightedit edit photo.png "make it red" -o <LONG_NAME> => nnnn
insightedit edit photo.png "make it red" -o photo.png/out.png => photo.png
insightedit edit photo.png "make it red" -o pipe.png => pipe.png
insightedit edit photo.png "make it red" -o out.png --report out.png => out.png
insightedit edit photo.png "make it red" -o out.png --before-after out.png => out.png
insightedit edit photo.png "make it red" -o mask.png --mask mask.png => mask.png
insightedit edit photo.png "make it red" --report no/report.html => no
insightedit edit photo.png "make it red" --report full => full
insightedit edit photo.png "make it red" --before-after full => full
insightedit edit photo.png "make it red" --before-after pair.docx => pair.docx
insightedit edit album "make it red" -o photo.png => photo.png
insightedit edit album "make it red" -o album => album
insightedit edit album "make it red" -o loop => loop
insightedit edit album "make it red" --report r.html => --report
insightedit edit photo.png "make it red" --mask missing.png => missing.png
insightedit edit photo.png "make it red" --mask words.png => words.png
insightedit edit photo.png "make it red" --mask folder.png => folder.png
insightedit edit photo.png "make it red" --mask pipe.png => pipe.png
insightedit edit photo.png "make it red" --mask loop.png => loop.png
insightedit edit photo.png "make it red" --mask small_mask.png --model <MODEL> => mask | 5 x 5
insightedit edit photo.png "make it red" --mask mask.png --no-background-lock --model <MODEL> => mask
insightedit edit photo.png "make it red" --force --strict => --force | --strict
insightedit edit photo.png "make it red" --reference missing.png => missing.png
insightedit edit photo.png "make it red" --reference cut.png => cut.png
insightedit edit photo.png "make it red" --reference photo.png --reference photo.png --model <MODEL> => reference
insightedit edit photo.png "make it red" --steps 0 => steps | 0
insightedit edit photo.png "make it red" --steps -3 => steps | -3
insightedit edit photo.png "make it red" --steps 1.5 => steps | 1.5
insightedit edit photo.png "make it red" --steps ten => steps | ten
insightedit edit photo.png "make it red" --steps 1000000000 => steps | 1000000000
insightedit edit photo.png "make it red" --steps <BIG> => steps | <BIG>
insightedit edit photo.png "make it red" --seed -1 => seed | -1
insightedit edit photo.png "make it red" --seed 4294967296 => seed | 4294967296
insightedit edit photo.png "make it red" --seed <BIG> => seed | <BIG>
insightedit edit photo.png "make it red" --seed x => seed | x
insightedit edit photo.png "make it red" --seed 1e3 => seed | 1e3
insightedit edit photo.png "make it red" --guidance-scale nan => guidance-scale | nan
insightedit edit photo.png "make it red" --guidance-scale inf => guidance-scale | inf
insightedit edit photo.png "make it red" --guidance-scale -1 => guidance-scale | -1
insightedit edit photo.png "make it red" --guidance-scale 1e308 => guidance-scale | 1e308
insightedit edit photo.png "make it red" --guidance-scale much => guidance-scale | much
insightedit edit photo.png "make it red" --image-guidance-scale nan => image-guidance-scale | nan
insightedit edit photo.png "make it red" --image-guidance-scale 1e30 => image-guidance-scale | 1e30
insightedit edit photo.png "make it red" --image-guidance-scale -0.5 => image-guidance-scale | -0.5
insightedit edit photo.png "make it red" --image-prompt-scale inf => image-prompt-scale | inf
insightedit edit photo.png "make it red" --image-prompt-scale -2 => image-prompt-scale | -2
insightedit edit photo.png "make it red" --image-prompt-scale 1e9 => image-prompt-scale | 1e9
insightedit edit photo.png "make it red" --device nonsense => nonsense
insightedit edit photo.png "make it red" --device meta => meta
insightedit edit photo.png "make it red" --device xpu => xpu
insightedit edit photo.png "make it red" --device privateuseone => privateuseone
insightedit edit photo.png "make it red" --device cuda:99 => cuda:99
insightedit edit photo.png "make it red" --device cpu:7 => cpu:7
insightedit edit photo.png "make it red" --device "" => device
insightedit edit photo.png "make it red" --device mkldnn => mkldnn
insightedit edit photo.png "make it red" --model nowhere => nowhere
insightedit edit photo.png "make it red" --model ./nowhere => nowhere
insightedit edit photo.png "make it red" --model no_model => no_model
insightedit edit photo.png "make it red" --model photo.png => photo.png
insightedit edit photo.png "make it red" --model null_model => null_model
insightedit edit photo.png "make it red" --model list_model => list_model
insightedit edit photo.png "make it red" --model cut_model => cut_model
insightedit edit photo.png "make it red" --model other_model => other_model
insightedit edit photo.png "make it red" --model loop => loop
insightedit edit photo.png "make it red" --model broken => broken
insightedit edit photo.png "make it red" --model <LONG_FOLDER> => nnnn
insightedit edit photo.png "make it red" --model "" => model
insightedit edit photo.png "make it red" --model a/b/c/d => a/b/c/d
insightedit edit photo.png "make it red" --model nobody/nothing => nobody/nothing
insightedit edit "draw a dog" --model <MODEL> => draws none
insightedit edit "draw a dog" --report r.html => --report
insightedit edit "draw a dog" -o no/out.png => no
"""

MODELS = """
insightedit calibrate => model
insightedit calibrate missing => missing | model_index.json
insightedit calibrate full => full
insightedit calibrate <MODEL> --count 3 => count | 3
insightedit calibrate <MODEL> --count 20 --pack missing => missing
insightedit calibrate <MODEL> --count 20 => writes nothing before it edits
insightedit export => run
insightedit export missing -o out => missing
insightedit export photo.png -o out => photo.png
insightedit export full -o out => full
insightedit export cut_run -o out => cut_run
insightedit export run_null -o out => run_null
insightedit export loop -o out => loop
insightedit export broken -o out => broken
insightedit export <LONG_FOLDER> -o out => nnnn
insightedit export cut_run => --output
insightedit export cut_run -o out --dtype int3 => int3
insightedit export cut_run -o out --scenes -1 => scenes | -1
insightedit export cut_run -o out --scenes 1000000000 => scenes | 1000000000
insightedit export cut_run -o out --scenes many => scenes | many
insightedit export cut_run -o out --sample photo.png => photo.png
insightedit export cut_run -o out --sample =words => =words
insightedit export cut_run -o out --sample missing.png=words => missing.png
insightedit export <RUN> -o out --report missing.json => missing.json
insightedit export <RUN> -o out --report cut.json => cut.json
insightedit export <RUN> -o out --report null.json => null.json
insightedit export cut_run -o out --private => --private
insightedit export cut_run -o out --replace => --replace
insightedit export cut_run -o out --push-to nonsense => nonsense
insightedit export cut_run -o out --push-to a/b/c => a/b/c
insightedit export <RUN> -o photo.png => photo.png
insightedit export <RUN> -o full => full
insightedit export <RUN> -o <RUN> => stage
insightedit export <RUN> -o loop => loop
insightedit export <RUN> -o photo.png/model => photo.png
insightedit export <RUN> -o <LONG_FOLDER> => nnnn
insightedit export <RUN> -o out --dtype fp4 => fp4
insightedit import => system
insightedit import nonsense bad.pth -o out => nonsense
insightedit import smartedit missing -o out => missing
insightedit import smartedit full -o out => full
insightedit import smartedit bad.pth -o out => bad.pth
insightedit import smartedit loop -o out => loop
insightedit import smartedit full -o photo.png => photo.png
insightedit import smartedit full -o full => full
insightedit import smartedit full -o out --step -1 => step | -1
insightedit import smartedit full -o out --step x => step | x
insightedit import smartedit full -o out --dtype int8 => int8
insightedit import smartedit full -o out --base wheel=somewhere => wheel
insightedit import mgie missing -o out => --base weights
insightedit import mgie full -o out --base weights=missing => full
insightedit import mgie bad.pth -o out --base weights=full => bad.pth
insightedit import mgie full -o out --base nonsense=full => nonsense
insightedit import mige missing.pth -o out => missing.pth
insightedit import mige bad.pth -o out => PixArt
insightedit import mige empty.safetensors -o out --base nonsense=full => nonsense
insightedit import mige full -o out => full
insightedit import instructpix2pix missing -o out => missing
insightedit import instructpix2pix full -o out => full
insightedit import instructpix2pix bad.safetensors -o out => bad.safetensors
insightedit import instructpix2pix null_model -o out => null_model
insightedit import ip-adapter missing.bin -o out => --base MODEL
insightedit import ip-adapter bad.bin -o out --base <MODEL> => bad.bin
insightedit import ip-adapter bad.safetensors -o out --base <MODEL> => bad.safetensors
insightedit import ip-adapter bad.bin -o out --base => --base
insightedit import ip-adapter bad.bin -o out --base null_model => null_model
insightedit import ip-adapter bad.bin -o out --base list_model => list_model
insightedit import ip-adapter bad.bin -o out --base cut_model => cut_model
insightedit import ip-adapter bad.bin -o out --base other_model => bad.bin
insightedit info extra => extra
insightedit info --model nowhere => nowhere
insightedit info --model photo.png => photo.png
insightedit info --model no_model => no_model
insightedit info --model null_model => null_model
insightedit info --model list_model => list_model
insightedit info --model cut_model => cut_model
insightedit info --model other_model => other_model
insightedit info --model loop => loop
insightedit info --model <LONG_FOLDER> => nnnn
insightedit push => folder
insightedit push missing me/mine => missing
insightedit push photo.png me/mine => photo.png
insightedit push full me/mine => full
insightedit push null_model me/mine => push
insightedit push cut_model me/mine => push
insightedit push loop me/mine => loop
insightedit push <MODEL> nonsense => nonsense
insightedit push <MODEL> a/b/c => a/b/c
insightedit push <MODEL> "" => owner/name
insightedit push <MODEL> "me/mi ne" => me/mi ne
"""

SCENES = """
insightedit eval nonsense => nonsense
insightedit eval scenes --count 0 => count | 0
insightedit eval scenes --count -5 => count | -5
insightedit eval scenes --count 1000000000000 => count | 1000000000000
insightedit eval scenes --count <BIG> => count | <BIG>
insightedit eval scenes --count some => count | some
insightedit eval scenes --size 0 => size | 0
insightedit eval scenes --size 7 => size | 7
insightedit eval scenes --size 100000 => size | 100000
insightedit eval scenes --size 100000 --dump out => size | 100000
insightedit eval scenes --size <BIG> => size | <BIG>
insightedit eval scenes --split nonsense => nonsense
insightedit eval scenes --task nonsense => nonsense
insightedit eval scenes --seed -1 => seed | -1
insightedit eval scenes --seed <BIG> => seed | <BIG>
insightedit eval scenes --seed x => seed | x
insightedit eval scenes --pairs -1 => pairs | -1
insightedit eval scenes --pairs 1000000000000 => pairs | 1000000000000
insightedit eval scenes --batch-size 0 => batch-size | 0
insightedit eval scenes --batch-size 1000000000 => batch-size | 1000000000
insightedit eval scenes --steps 0 => steps | 0
insightedit eval scenes --steps 1000000000 => steps | 1000000000
insightedit eval scenes --guidance-scale nan => guidance-scale | nan
insightedit eval scenes --image-guidance-scale -inf => image-guidance-scale | -inf
insightedit eval scenes --image-prompt-scale 1e30 => image-prompt-scale | 1e30
insightedit eval scenes --device nonsense => nonsense
insightedit eval scenes --device meta => meta
insightedit eval scenes --device cuda:99 => cuda:99
insightedit eval scenes --model nowhere => nowhere
insightedit eval scenes --model null_model => null_model
insightedit eval scenes --model no_model --results album => --model | --results
insightedit eval scenes --results missing => missing
insightedit eval scenes --results photo.png => photo.png
insightedit eval scenes --results album_empty => album_empty
insightedit eval scenes --results album --count 2 => album
insightedit eval scenes --results loop => loop
insightedit eval scenes --results album --steps 2 => steps
insightedit eval scenes --results album --device cpu => device
insightedit eval scenes --out photo.png => photo.png
insightedit eval scenes --out loop => loop
insightedit eval scenes --out photo.png/x => photo.png
insightedit eval scenes --out <LONG_FOLDER> => nnnn
insightedit eval scenes --dump photo.png => photo.png
insightedit eval scenes --dump loop => loop
insightedit eval scenes --dump out --results album => --results | --dump
insightedit eval tradeoff --scales one,two => one,two
insightedit eval tradeoff --scales "" => scales
insightedit eval tradeoff --scales nan,1 => nan
insightedit eval tradeoff --scales 1.0,1e30 => 1e+30
insightedit eval tradeoff --scales -1,1 => -1
insightedit eval tradeoff --scales 1.5 => scales
insightedit eval tradeoff --count 0 => count | 0
insightedit eval tradeoff --size 100000 => size | 100000
insightedit eval tradeoff --split nonsense => nonsense
insightedit eval tradeoff --device nonsense => nonsense
insightedit eval tradeoff --steps -1 => steps | -1
insightedit eval tradeoff --model nowhere => nowhere
insightedit eval tradeoff --out photo.png => photo.png
insightedit eval tradeoff --seed <BIG> => seed | <BIG>
insightedit eval drift --turns 1 => turns | 1
insightedit eval drift --turns 1000000000 => turns | 1000000000
insightedit eval drift --count -1 => count | -1
insightedit eval drift --size 100000 => size | 100000
insightedit eval drift --guidance-scale nan => guidance-scale | nan
insightedit eval drift --batch-size 0 => batch-size | 0
insightedit eval drift --model no_model => no_model
insightedit eval drift --out photo.png => photo.png
insightedit eval drift --device privateuseone => privateuseone
insightedit eval baselines --count 0 => count | 0
insightedit eval baselines --size 100000 => size | 100000
insightedit eval baselines --size 3 => size | 3
insightedit eval baselines --tasks nonsense => nonsense
insightedit eval baselines --tasks "" => tasks
insightedit eval baselines --split nonsense => nonsense
insightedit eval baselines --seed -4 => seed | -4
insightedit eval compare => folders
insightedit eval compare missing => missing
insightedit eval compare full => full
insightedit eval compare eval_null eval_other => eval_null
insightedit eval compare eval_list eval_other => eval_list
insightedit eval compare eval_cut => eval_cut
insightedit eval compare eval_other eval_cut => eval_other
insightedit eval compare photo.png => photo.png
insightedit eval compare loop => loop
"""

BENCHMARKS = """
insightedit eval list nonsense => nonsense
insightedit eval list "" => unknown benchmark
insightedit eval magicbrush => folder
insightedit eval magicbrush missing --results album => missing
insightedit eval magicbrush full --results album => full
insightedit eval magicbrush photo.png --results album => photo.png
insightedit eval magicbrush loop --results album => loop
insightedit eval magicbrush <BRUSH> => --model | --results
insightedit eval magicbrush <BRUSH> --results missing => missing
insightedit eval magicbrush <BRUSH> --results album => album
insightedit eval magicbrush <BRUSH> --results album --model x => --model | --results
insightedit eval magicbrush <BRUSH> --results album --split nonsense => nonsense
insightedit eval magicbrush <BRUSH> --results album --protocol nonsense => nonsense
insightedit eval magicbrush <BRUSH> --results album --limit 0 => limit | 0
insightedit eval magicbrush <BRUSH> --results album --limit many => limit | many
insightedit eval magicbrush <BRUSH> --results album --seeds 2 => seeds
insightedit eval magicbrush <BRUSH> --results album --judge nonsense => nonsense
insightedit eval magicbrush <BRUSH> --results album --judge endpoint => judge
insightedit eval magicbrush <BRUSH> --results album --weights nonsense => nonsense
insightedit eval magicbrush <BRUSH> --results album --weights a=missing => missing
insightedit eval magicbrush <BRUSH> --results album --device nonsense => nonsense
insightedit eval magicbrush <BRUSH> --results album --device meta => meta
insightedit eval magicbrush <BRUSH> --results <RESULTS> --out photo.png => photo.png
insightedit eval magicbrush <BRUSH> --model nowhere => nowhere
insightedit eval magicbrush <BRUSH> --model nowhere --steps 0 => steps | 0
insightedit eval magicbrush <BRUSH> --model nowhere --steps <BIG> => steps | <BIG>
insightedit eval magicbrush <BRUSH> --model nowhere --seed -1 => seed | -1
insightedit eval magicbrush <BRUSH> --model nowhere --seed <BIG> => seed | <BIG>
insightedit eval magicbrush <BRUSH> --model nowhere --seeds 1000000000 => seeds | 1000000000
insightedit eval magicbrush <BRUSH> --model nowhere --guidance-scale nan => guidance-scale | nan
insightedit eval magicbrush <BRUSH> --model nowhere --batch-size 1000000000 => batch-size | 1000000000
insightedit eval magicbrush <BRUSH> --model nowhere --partial => --partial
insightedit eval magicbrush <BRUSH> --dump photo.png => photo.png
insightedit eval magicbrush <BRUSH> --dump loop => loop
insightedit eval reason-edit full --results album => full
insightedit eval advancededit full --results album => full
insightedit eval advancededit missing --results album => missing
insightedit eval emu-edit full --results album => full
insightedit eval emu-edit parquets --results album => parquets
insightedit eval evr full --results album => full
insightedit eval gier full --results album => full
insightedit eval ma5k full --results album => full
insightedit eval migebench full --results album => full
insightedit eval dreambench full --results album => full
insightedit eval gedit full --results album => full
insightedit eval gedit parquets --results album --judge endpoint => parquets
insightedit eval gedit full --results album --judge-rate nan => judge-rate | nan
insightedit eval gedit full --results album --judge-rate 0 => judge-rate | 0
insightedit eval imgedit full --results album => full
insightedit eval imgedit full --results album --judge local => full
insightedit eval table => folders
insightedit eval table missing => missing
insightedit eval table full => full
insightedit eval table eval_null => eval_null
insightedit eval table eval_list => eval_list
insightedit eval table eval_cut => eval_cut
insightedit eval table eval_other => eval_other
insightedit eval table <MEASURED> --format html => html
insightedit eval table <MEASURED> --category nonsense => nonsense
insightedit eval table <MEASURED> --resamples 0 => resamples | 0
insightedit eval table <MEASURED> --resamples 1000000000000 => resamples | 1000000000000
insightedit eval table <MEASURED> --published --category L1 => --published | --category
insightedit eval paired <MEASURED> => second
insightedit eval paired <MEASURED> missing => missing
insightedit eval paired <MEASURED> <MEASURED> --metric nonsense => nonsense
insightedit eval paired <MEASURED> <MEASURED> --primary nonsense => nonsense
insightedit eval paired <MEASURED> <MEASURED> --format html => html
insightedit eval paired eval_null eval_null => eval_null
insightedit eval rate <MEASURED> => --page | --key
insightedit eval rate missing --page out => missing
insightedit eval rate <MEASURED> <MEASURED> --page out => --method
insightedit eval rate <MEASURED> --page photo.png => photo.png
insightedit eval rate <MEASURED> --page out --raters 0 => raters | 0
insightedit eval rate <MEASURED> --page out --raters 1000000000 => raters | 1000000000
insightedit eval rate <MEASURED> --page out --count 0 => count | 0
insightedit eval rate null.json --key missing.json => missing.json
insightedit eval rate null.json --key null.json => null.json
insightedit eval rate null.json --key cut.json => cut.json
insightedit eval rate null.json --key deep.json => deep.json
insightedit eval rate null.json --key binary.json => binary.json
insightedit eval rate null.json --key infinite.json => infinite.json
insightedit eval rate null.json --key pipe.json => pipe.json
insightedit eval judge-replay missing => missing
insightedit eval judge-replay full => full
insightedit eval judge-replay <MEASURED> => judge
insightedit eval judge-replay eval_null => eval_null
insightedit eval report missing => missing
insightedit eval report full => full
insightedit eval report eval_null => eval_null
insightedit eval report eval_cut => eval_cut
insightedit eval report <MEASURED> --out report.txt => report.txt
insightedit eval report <MEASURED> --out full.html/x.html --by nonsense => nonsense
insightedit eval report <MEASURED> --by nonsense => nonsense
insightedit eval report <MEASURED> --resamples -1 => resamples | -1
insightedit eval report <MEASURED> --votes null.json => --votes | --key
insightedit eval report <MEASURED> --votes null.json --key null.json => null.json
benchmarks.ablations --studies nonsense => nonsense
benchmarks.ablations --studies "" => studies
benchmarks.ablations --seeds 0 => seeds | 0
benchmarks.ablations --seeds 1000000000 => seeds | 1000000000
benchmarks.ablations --steps -1 => steps | -1
benchmarks.ablations --steps <BIG> => steps | <BIG>
benchmarks.ablations --batch-size 0 => batch-size | 0
benchmarks.ablations --lr nan --dry-run => lr | nan
benchmarks.ablations --lr inf --dry-run => lr | inf
benchmarks.ablations --lr -1 --dry-run => lr | -1
benchmarks.ablations --count 0 => count | 0
benchmarks.ablations --split nonsense --dry-run => nonsense
benchmarks.ablations --scale huge --dry-run => huge
benchmarks.ablations --out photo.png --table => photo.png
benchmarks.ablations --out eval_null --table => eval_null
benchmarks.ablations --out eval_cut --table => eval_cut
benchmarks.ablations --out eval_other --table => eval_other
benchmarks.ablations --out loop --table => loop
benchmarks.ablations --table => runs/ablations
benchmarks.ablations --out rows --model nowhere => miniature
benchmarks.ablations --out rows --foundation nowhere => nowhere
"""

DATA = """
insightedit doctor data missing => missing
insightedit doctor data photo.png => photo.png
insightedit doctor data full => full
insightedit doctor data album_empty => album_empty
insightedit doctor data text_only => text_only
insightedit doctor data empty.jsonl => empty.jsonl
insightedit doctor data loop => loop
insightedit doctor data broken => broken
insightedit doctor data pipe.jsonl => pipe.jsonl
insightedit doctor data <LONG_FOLDER> => nnnn
insightedit doctor data pairs.jsonl --kind nonsense => nonsense
insightedit doctor data pairs.jsonl --kind parquet => pairs.jsonl
insightedit doctor data pairs.jsonl --split nonsense => nonsense
insightedit doctor data pairs.jsonl --count 0 => count | 0
insightedit doctor data pairs.jsonl --count x => count | x
insightedit doctor data pairs.jsonl --against missing => missing
insightedit doctor data pairs.jsonl --against x=missing => missing
insightedit doctor data pairs.jsonl --sheet sheet.txt => sheet.txt
insightedit doctor data pairs.jsonl --sheet no/sheet.html => no
insightedit doctor data pairs.jsonl --sheet a.png => a.png
insightedit doctor data pairs.jsonl --sheet full => full
insightedit doctor nonsense => nonsense
insightedit data nonsense => nonsense
insightedit data preview nonsense => nonsense
insightedit data preview insightedit --overlay nonsense => nonsense
insightedit data preview insightedit --stage 0 => stage | 0
insightedit data preview insightedit --stage 4 => stage | 4
insightedit data preview insightedit --stage x => stage | x
insightedit data preview insightedit --overlay tiny --samples 0 => samples | 0
insightedit data preview insightedit --overlay tiny --samples 1000000000000 => samples | 1000000000000
insightedit data preview insightedit --overlay tiny --draws 0 => draws | 0
insightedit data preview insightedit --overlay tiny --draws 1000000000000 => draws | 1000000000000
insightedit data preview insightedit --overlay tiny --sheet sheet.txt => sheet.txt
insightedit data preview insightedit --overlay tiny --sheet no/sheet.png => no
insightedit data preview insightedit --overlay tiny --init-from nowhere => nowhere
insightedit data preview insightedit --overlay tiny nonsense=1 => nonsense
insightedit data preview insightedit --overlay tiny nonsense => nonsense
insightedit data preview insightedit --overlay tiny data.sources=[] => data.sources
insightedit data preview insightedit --overlay tiny 'data.sources=[{kind: jsonl, path: missing}]' => missing
insightedit data preview insightedit --overlay tiny 'data.sources=[{kind: jsonl, path: empty.jsonl}]' => empty.jsonl
insightedit data preview insightedit --overlay tiny 'data.sources=[{kind: nonsense}]' => nonsense
insightedit data preview insightedit --overlay tiny generation.resolution=7 => generation.resolution | 7
insightedit data preview insightedit --overlay tiny generation.resolution=100000 => generation.resolution | 100000
insightedit data preview missing.yaml => missing.yaml
insightedit data preview cut.yaml => cut.yaml
insightedit data preview list.yaml => list.yaml
insightedit data preview number.yaml => number.yaml
insightedit data preview tab.yaml => tab.yaml
insightedit data preview unknown.yaml => sceens
insightedit data preview binary.yaml => binary.yaml
insightedit data preview anchor.yaml => anchor.yaml
insightedit data preview object.yaml => object.yaml
insightedit data preview deep.yaml => deep.yaml
insightedit data preview pipe.yaml => pipe.yaml
insightedit data preview folder.png => folder.png
insightedit data preview photo.png => photo.png
insightedit data preview insightedit --overlay cut.yaml => cut.yaml
"""

STAGES = """
insightedit.stage1 --nonsense => --nonsense
insightedit.stage1 --recipe nonsense => nonsense
insightedit.stage1 --overlay nonsense => nonsense
insightedit.stage1 --config missing.yaml => missing.yaml
insightedit.stage1 --config cut.yaml => cut.yaml
insightedit.stage1 --config list.yaml => list.yaml
insightedit.stage1 --config binary.yaml => binary.yaml
insightedit.stage1 --config unknown.yaml => sceens
insightedit.stage1 --config anchor.yaml => anchor.yaml
insightedit.stage1 --config deep.yaml => deep.yaml
insightedit.stage1 --config pipe.yaml => pipe.yaml
insightedit.stage1 --config folder.png => folder.png
insightedit.stage1 --config loop => loop
insightedit.stage1 --overlay => --overlay
insightedit.stage1 --overlay tiny nonsense => nonsense
insightedit.stage1 --overlay tiny nonsense=3 => nonsense
insightedit.stage1 --overlay tiny sceens.max_steps=3 => sceens.max_steps
insightedit.stage1 --overlay tiny =3 => (command line)
insightedit.stage1 --overlay tiny train.max_steps=0 => train.max_steps | 0
insightedit.stage1 --overlay tiny train.max_steps=-1 => train.max_steps | -1
insightedit.stage1 --overlay tiny train.max_steps=ten => train.max_steps | ten
insightedit.stage1 --overlay tiny train.max_steps=1.5 => train.max_steps | 1.5
insightedit.stage1 --overlay tiny train.max_steps= => train.max_steps
insightedit.stage1 --overlay tiny 'train.max_steps=[1' => train.max_steps
insightedit.stage1 --overlay tiny train.batch_size=1000000000 => train.batch_size | 1000000000
insightedit.stage1 --overlay tiny train.seed=-1 => train.seed | -1
insightedit.stage1 --overlay tiny train.seed=<BIG> => train.seed | <BIG>
insightedit.stage1 --overlay tiny train.precision=fp4 => train.precision | fp4
insightedit.stage1 --overlay tiny optim.lr=nan => optim.lr | nan
insightedit.stage1 --overlay tiny optim.lr=inf => optim.lr | inf
insightedit.stage1 --overlay tiny optim.lr=-1 => optim.lr | -1
insightedit.stage1 --overlay tiny optim.lr=1e30 => optim.lr | 1e+30
insightedit.stage1 --overlay tiny optim.name=nonsense => optim.name | nonsense
insightedit.stage1 --overlay tiny comprehension.num_edit_tokens=1000000000 => comprehension.num_edit_tokens
insightedit.stage1 --overlay tiny comprehension.model=nowhere => nowhere
insightedit.stage1 --overlay tiny comprehension.quantization=3bit => comprehension.quantization | 3bit
insightedit.stage1 --overlay tiny bridge.qformer.num_layers=1000000000 => bridge.qformer.num_layers
insightedit.stage1 --overlay tiny bridge.qformer.num_heads=7 => heads
insightedit.stage1 --overlay tiny generation.resolution=100000 => generation.resolution | 100000
insightedit.stage1 --overlay tiny generation.resolution=0 => generation.resolution | 0
insightedit.stage1 --overlay tiny generation.resolution=7 => generation.resolution | 7
insightedit.stage1 --overlay tiny data.num_workers=1000000 => data.num_workers | 1000000
insightedit.stage1 --overlay tiny data.sources=[] => data.sources
insightedit.stage1 --overlay tiny data.sources=7 => data.sources
insightedit.stage1 --overlay tiny 'data.sources=[{kind: nonsense}]' => nonsense
insightedit.stage1 --overlay tiny 'data.sources=[{kind: jsonl, path: missing.jsonl}]' => missing.jsonl
insightedit.stage1 --overlay tiny 'data.sources=[{kind: jsonl, path: empty.jsonl}]' => empty.jsonl
insightedit.stage1 --overlay tiny 'data.sources=[{kind: jsonl, path: loop}]' => loop
insightedit.stage1 --overlay tiny 'data.sources=[{kind: jsonl, path: pipe.jsonl}]' => pipe.jsonl
insightedit.stage1 --overlay tiny 'data.sources=[{kind: parquet, path: bad.parquet}]' => bad.parquet
insightedit.stage1 --overlay tiny 'data.sources=[{kind: webdataset, path: bad_tars}]' => bad_tars
insightedit.stage1 --overlay tiny 'data.sources=[{kind: scenes, weight: -1}]' => weight | -1
insightedit.stage1 --overlay tiny 'data.sources=[{kind: scenes, weight: .nan}]' => weight | nan
insightedit.stage1 --overlay tiny 'data.sources=[{kind: scenes, nonsense: 1}]' => nonsense
insightedit.stage1 --overlay tiny output_dir=photo.png => photo.png
insightedit.stage1 --overlay tiny output_dir=photo.png/run => photo.png
insightedit.stage1 --overlay tiny output_dir=loop => loop
insightedit.stage1 --overlay tiny output_dir=<LONG_FOLDER> => nnnn
insightedit.stage1 --overlay tiny --init-from nowhere => nowhere
insightedit.stage1 --overlay tiny --init-from null_model => null_model
insightedit.stage1 --recipe mige --overlay tiny => stage
insightedit.stage2 --overlay tiny => stage1
insightedit.stage2 --overlay tiny --init-from missing => missing
insightedit.stage2 --overlay tiny --init-from full => full
insightedit.stage2 --overlay tiny --init-from photo.png => photo.png
insightedit.stage2 --overlay tiny --init-from cut_model => cut_model
insightedit.stage2 --overlay tiny --init-from loop => loop
insightedit.stage2 --overlay tiny loss.noise=nan => loss.noise | nan
insightedit.stage2 --overlay tiny comprehension.lora.rank=1000000000 => comprehension.lora.rank
insightedit.stage3 --overlay tiny => stage2
insightedit.stage3 --overlay tiny --init-from nobody/nothing => nobody/nothing
insightedit.stage3 --overlay tiny --init-from <LONG_FOLDER> => nnnn
insightedit.stage3 --overlay tiny guidance.drop_text=2 => guidance.drop_text | 2
insightedit.stage3 --overlay tiny bridge.bim.depth=1000000000 => bridge.bim.depth
insightedit.miniatures nonsense => nonsense
insightedit.miniatures --nonsense => --nonsense
insightedit.miniatures tokenizer --size huge => huge
insightedit.miniatures tokenizer --size tiny --root photo.png => photo.png
insightedit.miniatures tokenizer --size tiny --root loop => loop
insightedit.miniatures tokenizer --size tiny --root photo.png/x => photo.png
insightedit.miniatures tokenizer --size tiny --root <LONG_FOLDER> => nnnn
insightedit.miniatures vision --size huge => huge
insightedit.miniatures clip --size tiny --root found --steps 0 => steps | 0
insightedit.miniatures clip --size tiny --root found --steps <BIG> => steps | <BIG>
insightedit.miniatures clip --size tiny --root found --steps x => steps | x
insightedit.miniatures clip --size tiny --root found --lr nan => lr | nan
insightedit.miniatures clip --size tiny --root found --lr inf => lr | inf
insightedit.miniatures clip --size tiny --root found --lr 1e30 => lr | 1e30
insightedit.miniatures vae --size tiny --root found --minutes -1 => minutes | -1
insightedit.miniatures vae --size tiny --root found --minutes nan => minutes | nan
insightedit.miniatures vae --size tiny --root found --minutes inf => minutes | inf
insightedit.miniatures vae --size tiny --root found --batch-size 1 => batch-size | 1
insightedit.miniatures vae --size tiny --root found --batch-size 1000000000 => batch-size | 1000000000
insightedit.miniatures llava --size tiny --root found --workers -1 => workers | -1
insightedit.miniatures llava --size tiny --root found --workers 1000000 => workers | 1000000
insightedit.miniatures sd --size tiny --root found --threads 0 => threads | 0
insightedit.miniatures sd --size tiny --root found --threads 1000000000 => threads | 1000000000
insightedit.miniatures ip2p --size tiny --root found --stop-after 0 => stop-after | 0
insightedit.miniatures pixart --size tiny --root found --steps -1 => steps | -1
insightedit.miniatures all --size nonsense => nonsense
insightedit.miniatures all --size tiny --root found --minutes nan => minutes | nan
insightedit.miniatures all --size tiny --root found --minutes 0 => minutes | 0
"""

RECIPES = """
data_recipes nonsense => nonsense
data_recipes --nonsense => --nonsense
data_recipes advancededit --config nonsense --out out => nonsense
data_recipes advancededit --config missing.yaml --out out => missing.yaml
data_recipes advancededit --config cut.yaml --out out => cut.yaml
data_recipes advancededit --config list.yaml --out out => list.yaml
data_recipes advancededit --config binary.yaml --out out => binary.yaml
data_recipes advancededit --config anchor.yaml --out out => anchor.yaml
data_recipes advancededit --config deep.yaml --out out => deep.yaml
data_recipes advancededit --config pipe.yaml --out out => pipe.yaml
data_recipes advancededit --config unknown.yaml --out out => sceens
data_recipes scenes --config shell.yaml --out out => advancededit
data_recipes advancededit --config folder.png --out out => folder.png
data_recipes --config scenes_oracle --out photo.png => photo.png
data_recipes --config scenes_oracle --out full => full
data_recipes --config scenes_oracle --out loop => loop
data_recipes --config scenes_oracle --out photo.png/x => photo.png
data_recipes --config scenes_oracle --out <LONG_FOLDER> => nnnn
data_recipes --config scenes_oracle --out out --count 0 => count | 0
data_recipes --config scenes_oracle --out out --count x => count | x
data_recipes --config scenes_oracle --out out --count <BIG> => count | <BIG>
data_recipes --config scenes_oracle --out out --workers 0 => engine.workers | 0
data_recipes --config scenes_oracle --out out --workers 1000000 => engine.workers | 1000000
data_recipes --config scenes_oracle --out out --engine spark => spark
data_recipes --config scenes_oracle --dry-run --sample 0 => sample | 0
data_recipes --config scenes_oracle --out out source.size=100000 => source.size | 100000
data_recipes --config scenes_oracle --out out source.size=0 => source.size | 0
data_recipes --config scenes_oracle --out out source.size=-5 => source.size | -5
data_recipes --config scenes_oracle --out out source.size=big => source.size | big
data_recipes --config scenes_oracle --out out source.start=-1 => source.start | -1
data_recipes --config scenes_oracle --out out source.start=<BIG> => source.start | <BIG>
data_recipes --config scenes_oracle --out out source.seed=<BIG> => source.seed | <BIG>
data_recipes --config scenes_oracle --out out source.seed=-1 => source.seed | -1
data_recipes --config scenes_oracle --out out source.split=nonsense => nonsense
data_recipes --config scenes_oracle --out out source.max_side=0 => source.max_side | 0
data_recipes --config scenes_oracle --out out source.max_side=-1 => source.max_side | -1
data_recipes --config scenes_oracle --out out source.kind=nonsense => nonsense
data_recipes --config scenes_oracle --out out source.kind=os:system => os:system
data_recipes --config scenes_oracle --out out seed=<BIG> => seed | <BIG>
data_recipes --config scenes_oracle --out out seed=-1 => seed | -1
data_recipes --config scenes_oracle --out out nonsense=1 => nonsense
data_recipes --config scenes_oracle --out out source.nonsense=1 => source.nonsense
data_recipes --config scenes_oracle --out out 'source.size=[' => source.size
data_recipes --config scenes_oracle --out out output.shard_size=0 => output.shard_size | 0
data_recipes --config scenes_oracle --out out output.format=csv => csv
data_recipes --config scenes_oracle --out out output.split=a/b => a/b
data_recipes --config scenes_oracle --out out engine.batch_size=0 => engine.batch_size | 0
data_recipes --config scenes_oracle --out out engine.retries=-1 => engine.retries | -1
data_recipes --config scenes_oracle --out out engine.backoff=nan => engine.backoff | nan
data_recipes --config scenes_oracle --out out engine.backoff=1e30 => engine.backoff | 1e+30
data_recipes --config scenes_oracle --out out engine.max_failed=nan => engine.max_failed | nan
data_recipes --config scenes_oracle --out out engine.devices=[nonsense] => nonsense
data_recipes --config scenes_oracle --out out engine.num_cpus=-1 => engine.num_cpus | -1
data_recipes --config scenes_oracle --out out backends.chat=7 => backends.chat | 7
data_recipes --config scenes_oracle --out out backends.chat.kind=nonsense => nonsense
data_recipes --config scenes_oracle --out out backends.chat.kind=os:system => os:system
data_recipes --config scenes_oracle --out out steps.nonsense.x=1 => nonsense
data_recipes --config scenes_oracle --out out steps=7 => steps
data_recipes.advancededit --config scenes_oracle nonsense => nonsense
data_recipes.advancededit --config scenes_oracle --out out steps.masks.nonsense=1 => nonsense
data_recipes.advancededit --config advancededit --out out => source.path
data_recipes.advancededit --config advancededit source.path=missing --out out => missing
data_recipes.advancededit --config advancededit source.path=album_empty --out out => album_empty
data_recipes.advancededit --config advancededit source.path=loop --out out => loop
data_recipes.advancededit --config smartedit_synthetic_oracle --out out => smartedit_synthetic
data_recipes.smartedit_synthetic --config smartedit_synthetic_oracle --out photo.png => photo.png
data_recipes.smartedit_synthetic --config smartedit_synthetic_oracle --out out source.size=100000 => source.size
data_recipes.smartedit_synthetic --config smartedit_synthetic source.path=missing --out out => missing
data_recipes.mige_addition --config mige_addition_oracle --out out source.size=100000 => source.size | 100000
data_recipes.mige_addition --config mige_addition_oracle --out full => full
data_recipes.mige_replacement --config mige_replacement_oracle --out out source.size=100000 => source.size
data_recipes.mige_replacement --config mige_replacement_oracle --out full => full
data_recipes.subject_driven --config subject_driven_oracle --out out source.size=100000 => source.size | 100000
data_recipes.subject_driven --config subject_driven source.path=missing --out out => missing
data_recipes.mgie_expressive --config mgie_expressive_oracle --out out source.size=100000 => source.size
data_recipes.mgie_expressive --config mgie_expressive_oracle --out full => full
data_recipes.mgie_expressive --config mgie_expressive source.path=missing --out out => missing
data_recipes.expressive --out out => --data
data_recipes.expressive --data missing --out out => missing
data_recipes.expressive --data pairs.jsonl --out photo.png => photo.png
data_recipes.expressive --data pairs.jsonl --out full => full
data_recipes.expressive --data empty.jsonl --out out => empty.jsonl
data_recipes.expressive --data pairs.jsonl --out out --kind nonsense => nonsense
data_recipes.expressive --data pairs.jsonl --out out --count 0 => count | 0
data_recipes.expressive --data pairs.jsonl --out out --batch-size 0 => batch-size | 0
data_recipes.expressive --data pairs.jsonl --out out --batch-size 1000000000 => batch-size | 1000000000
data_recipes.expressive --data pairs.jsonl --out out --max-new-tokens 0 => max-new-tokens | 0
data_recipes.expressive --data pairs.jsonl --out out --max-new-tokens 1000000000 => max-new-tokens | 1000000000
data_recipes.expressive --data pairs.jsonl --out out --device nonsense => nonsense
data_recipes.expressive --data pairs.jsonl --out out --device meta => meta
data_recipes.scenes --count 3 => --out
data_recipes.scenes --out out --count 0 => count | 0
data_recipes.scenes --out out --count -1 => count | -1
data_recipes.scenes --out out --count <BIG> => count | <BIG>
data_recipes.scenes --out out --count x => count | x
data_recipes.scenes --out out --size 0 => size | 0
data_recipes.scenes --out out --size 100000 => size | 100000
data_recipes.scenes --out out --size 1e3 => size | 1e3
data_recipes.scenes --out out --seed -1 => seed | -1
data_recipes.scenes --out out --seed <BIG> => seed | <BIG>
data_recipes.scenes --out out --start-index -1 => start | -1
data_recipes.scenes --out out --count 2 --start-index <BIG> => start | <BIG>
data_recipes.scenes --out out --shard-size 0 => shard | 0
data_recipes.scenes --out out --split nonsense => nonsense
data_recipes.scenes --out out --format csv => csv
data_recipes.scenes --out out --task nonsense => nonsense
data_recipes.scenes --out photo.png --count 2 => photo.png
data_recipes.scenes --out full --count 2 => full
data_recipes.scenes --out loop --count 2 => loop
data_recipes.scenes --out out --count 2 --assets missing => missing
data_recipes.scenes --out out --count 2 --assets full => full
data_recipes.scenes --out out --count 2 --assets photo.png => photo.png
data_recipes.scenes --sheet sheet.txt => sheet.txt
data_recipes.scenes --sheet no/sheet.png => no
data_recipes.scenes --sheet full => full
data_recipes.formats missing --to jsonl -o out => missing
data_recipes.formats pairs.jsonl --to nonsense -o out => nonsense
data_recipes.formats pairs.jsonl -o out => --to
data_recipes.formats pairs.jsonl --to jsonl => --out
data_recipes.formats pairs.jsonl --to jsonl -o full => full
data_recipes.formats pairs.jsonl --to jsonl -o photo.png => photo.png
data_recipes.formats pairs.jsonl --to jsonl -o loop => loop
data_recipes.formats pairs.jsonl --to jsonl -o photo.png/x => photo.png
data_recipes.formats pairs.jsonl --to jsonl -o out --kind nonsense => nonsense
data_recipes.formats pairs.jsonl --to jsonl -o out --kind parquet => pairs.jsonl
data_recipes.formats pairs.jsonl --to jsonl -o out --start -1 => start | -1
data_recipes.formats pairs.jsonl --to jsonl -o out --start 99 => 99
data_recipes.formats pairs.jsonl --to jsonl -o out --count 0 => count | 0
data_recipes.formats pairs.jsonl --to jsonl -o out --max-side 3 => max-side | 3
data_recipes.formats pairs.jsonl --to jsonl -o out --max-side <BIG> => max-side | <BIG>
data_recipes.formats empty.jsonl --to jsonl -o out => empty.jsonl
data_recipes.formats cut.jsonl --to jsonl -o out => cut.jsonl
data_recipes.formats pipe.jsonl --to jsonl -o out => pipe.jsonl
data_recipes.formats text_only --to jsonl -o out => text_only
data_recipes.formats bad.parquet --to jsonl -o out => bad.parquet
data_recipes.formats bad_tars --to jsonl -o out => bad_tars
data_recipes.formats loop --to jsonl -o out => loop
"""

SCRIPTS = """
stages/launch.sh => usage
stages/launch.sh 4 => usage
stages/launch.sh one => usage
stages/multi_node.sh => usage
stages/multi_node.sh 9 => usage
stages/multi_node.sh 1 => hosts
stages/stage1.sh --nonsense => --nonsense
stages/stage1.sh --overlay nonsense => nonsense
stages/stage3.sh --overlay tiny train.max_steps=0 => train.max_steps
NPROC=0 stages/stage1.sh --overlay tiny => NPROC
NPROC=many stages/stage2.sh --overlay tiny => NPROC
RECIPE=nonsense stages/all.sh --overlay tiny => nonsense
STAGES=7 stages/all.sh --overlay tiny => 7
SIZE=nonsense stages/all.sh --overlay tiny => nonsense
PYTHON=nowhere stages/all.sh --overlay tiny => nowhere
MINUTES=soon stages/default.sh => minutes
SIZE=65 stages/default.sh => 65
PACK=nowhere stages/default.sh => nowhere
stages/default.sh --nonsense => --nonsense
PYTHON=nowhere stages/stage1.sh --overlay tiny => nowhere
"""

GROUPS = {
    "edit": EDIT,
    "models": MODELS,
    "scenes": SCENES,
    "benchmarks": BENCHMARKS,
    "data": DATA,
    "stages": STAGES,
    "recipes": RECIPES,
}


def calls(text: str) -> list[tuple[str, str]]:
    """Call and what its sentence names, of each line."""
    found = []
    for line in text.strip().splitlines():
        words, arrow, named = line.rpartition(" => ")
        assert arrow, line
        found.append((words, named))
    return found


def spelled(text: str, places: dict[str, str]) -> str:
    """A word with what stands for its <NAMES>."""
    for name, value in {**PLACES, **places}.items():
        text = text.replace(f"<{name}>", value)
    return text


def split(call: str, places: dict[str, str]) -> list[str]:
    """The words of a call."""
    return [spelled(word, places) for word in shlex.split(call)]
