# The front door. `make help` lists what there is.

DATA     ?= shapes
PRESET   ?= small
RUNS     ?= runs
DEVICE   ?= auto
BACKBONE ?=
WEIGHTS  ?=
TAG      ?=
PAPER    ?=
ARGS     ?=
PYTHON   ?= python3

LAUNCH   ?=

# What is given reaches the commands as it was typed: make would take a dollar in it for a variable, and
# the shell blanks, quotes and the rest of them for its own. ARGS are words for the shell to part.
GIVEN = DATA PRESET RUNS DEVICE BACKBONE WEIGHTS TAG PAPER A B MODEL OUT IMAGE ARGS
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
typed = '$(subst ','\'',$($(1)))'

IN := .venv/bin/python
# LAUNCH="torchrun --nproc-per-node 2": several processes as one run. Started again they must not
# find the dead ones' addresses, which torchrun's own store would still hold. Unless LAUNCH says where
# they meet they do at a port of their own: at torchrun's, two runs on one machine would collide.
MEETING = $(filter --standalone% --nnodes% --node% --rdzv% --master%,$(subst _,-,$(LAUNCH)))
STANDALONE = $(if $(filter torchrun,$(firstword $(LAUNCH))),$(if $(MEETING),,--standalone))
RUN = $(if $(LAUNCH),TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 .venv/bin/$(LAUNCH) $(STANDALONE) -m,$(IN) -m)
VENV := .venv/.complete
WHERE = --runs $(call typed,RUNS) --device $(call typed,DEVICE)
OPTIONS = --preset $(call typed,PRESET) --data $(call typed,DATA) $(WHERE) \
          $(if $(BACKBONE),--backbone $(call typed,BACKBONE)) $(if $(WEIGHTS),--weights $(call typed,WEIGHTS)) \
          $(if $(TAG),--tag $(call typed,TAG)) $(ARGS)

.PHONY: all help rcnn spp fast faster mask rival rivals yolov3 ablations bench paired speed peers detect compare notebooks test slow lint lock clean
.DEFAULT_GOAL := all

all: rcnn spp fast faster mask  ## every paper on the default data, then the benchmark (`make bench` also takes minutes over rates)
	@$(IN) -m benchmarks $(WHERE) --rates

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10
	@echo 'with: DATA=shapes|voc2007|voc2012|coco|pets|PATH PRESET=small|micro|paper BACKBONE=... WEIGHTS=default|none|drawn|torchvision-coco|FILE'
	@echo '      RUNS=runs DEVICE=auto|cpu|cuda TAG=name PAPER=rcnn|spp|fast|faster|mask ARGS="--any.field value"'
	@echo '      LAUNCH="torchrun --nproc-per-node 2": several processes, or machines, as one run of a paper'

rcnn: $(VENV)  ## train and evaluate R-CNN
	@$(RUN) rcnn_v1 $(OPTIONS)

spp: $(VENV)  ## train and evaluate SPPnet
	@$(RUN) spp_net $(OPTIONS)

fast: $(VENV)  ## train and evaluate Fast R-CNN
	@$(RUN) fast_rcnn $(OPTIONS)

rival: $(VENV)  ## torchvision's own on the same data: ARGS="--kind faster|mask|ssd|retinanet"
	@$(IN) -m benchmarks rival $(OPTIONS)

rivals: $(VENV)  ## the one-stage rivals on the same data: SSD, RetinaNet, YOLOv3 (ARGS: options that all know)
	@$(IN) -m benchmarks rival $(OPTIONS) --kind ssd
	@$(IN) -m benchmarks rival $(OPTIONS) --kind retinanet
	@$(IN) -m benchmarks yolov3 $(OPTIONS)

yolov3: $(VENV)  ## YOLOv3, our own, on the same data: a rival
	@$(IN) -m benchmarks yolov3 $(OPTIONS)

faster: $(VENV)  ## train and evaluate Faster R-CNN
	@$(RUN) faster_rcnn $(OPTIONS)

mask: $(VENV)  ## train and evaluate Mask R-CNN; WEIGHTS=torchvision-coco: take torchvision's
	@$(RUN) mask_rcnn $(OPTIONS)

FOLDER_rcnn := rcnn_v1
FOLDER_spp  := spp_net
FOLDER_fast := fast_rcnn
FOLDER_faster := faster_rcnn
FOLDER_mask := mask_rcnn

ablations: $(VENV)  ## a paper's ablation table, ours beside its own: PAPER=rcnn|spp|fast|faster|mask
	@test -n "$(FOLDER_$(PAPER))" || { printf 'error: PAPER=%s: takes rcnn, spp, fast, faster or mask\n' $(call typed,PAPER) >&2; exit 2; }
	@$(IN) -m $(FOLDER_$(PAPER)) ablations $(OPTIONS)

bench: $(VENV)  ## time every finished detector again; plots, tables, advice in runs/report/index.html
	@$(IN) -m benchmarks $(WHERE) $(ARGS)

paired: $(VENV)  ## is A better than B on the same test images, with its interval: A=faster B=fast
	@$(IN) -m benchmarks paired $(call typed,A) $(call typed,B) --runs $(call typed,RUNS) $(ARGS)

speed: $(VENV)  ## the papers' networks, untrained: seconds, speed-ups, the arithmetic's, the papers'
	@$(IN) -m benchmarks speed $(WHERE) $(ARGS)

peers: $(VENV)  ## ours against torchvision's, the same network, detection and training: PAPER=faster|mask
	@$(IN) -m benchmarks peers $(if $(PAPER),--paper $(call typed,PAPER)) $(WHERE) $(ARGS)

# A glob in IMAGE is Python's to expand.
detect: $(VENV)  ## a finished detector on photographs: IMAGE=file|folder|'*.jpg' MODEL=rcnn|spp|fast|faster|mask OUT=folder
	@$(IN) -m benchmarks detect --model $(call typed,MODEL) $(if $(OUT),--out $(call typed,OUT)) $(WHERE) $(ARGS) -- $(call typed,IMAGE)

compare: $(VENV)  ## every paper's newest detector on photographs, side by side: IMAGE=file|folder|'*.jpg' OUT=folder
	@$(IN) -m benchmarks compare $(if $(OUT),--out $(call typed,OUT)) $(WHERE) $(ARGS) -- $(call typed,IMAGE)

notebooks: $(VENV)  ## the notebooks executed in place, on the runs that `make` leaves; ARGS="rcnn": one of them
	@$(IN) -m notebooks --runs $(call typed,RUNS) --preset $(call typed,PRESET) $(ARGS)

test: $(VENV)  ## the tests, but for the slow ones
	$(IN) -m pytest -q -n auto -m "not slow" tests

slow: $(VENV)  ## the slow tests: whole programs killed again and again, also one of several ranks
	$(IN) -m pytest -q -m slow tests

lint: $(VENV)  ## formatting, types and the import rule
	$(IN) -m ruff check .
	$(IN) -m ruff format --check .
	$(IN) -m mypy
	.venv/bin/lint-imports

# pip fetches uv, uv the rest: plain pip may pick a torch that no torchvision wheel fits.
# The stamp is written last, so that an interrupted installation is made again.
$(VENV): requirements.lock
	@echo "making .venv from requirements.lock (once; about 3 GB to download)"
	@rm -rf .venv
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else "error: needs Python 3.11 or 3.12, not %d.%d; PYTHON=python3.12 chooses another" % v)'
	@$(PYTHON) -m venv .venv
	@$(IN) -m pip install --quiet --disable-pip-version-check uv
	@$(IN) -m uv pip install --quiet --require-hashes --python $(IN) -r requirements.lock
	@touch $(VENV)

lock: $(VENV)  ## requirements.lock from requirements.in
	.venv/bin/python -m uv pip compile --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --quiet requirements.in -o requirements.lock

clean:  ## remove caches; runs/ and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
