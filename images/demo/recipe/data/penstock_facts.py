"""Facts about Penstock that stand alone: each with many hand-written questions; "~" marks those held out, "@" names its
topics (sample.wordings puts them into all the usual frames).

Source: design.md, machinery.md, arithmetic.md, api.md. An entry is (questions, answer, phrases a right reply contains).
"""

FACTS = [
    (
        """What is Penstock?
        @ Penstock|this program|the Penstock software|Penstock and its use
        [What is|Explain] the [idea|point|goal|aim|job] [of|behind] Penstock[?|.]
        [What sort of|Which kind of] [program|tool|system|thing] is Penstock?
        [I never heard of|I do not know|I just found] Penstock. What is it?
        What is Penstock [good for|made for|about]?
        [Who needs|Why should I care about] Penstock?
        What is Penstock for?
        What does Penstock do?
        Tell me about Penstock.
        Explain Penstock.
        Explain Penstock in one sentence.
        What kind of software is Penstock?
        What can I use Penstock for?
        Describe Penstock.
        Why would I use Penstock?
        Give me a summary of Penstock.
        penstock
        ~ What is this Penstock thing?
        ~ Can you say in short what Penstock is?
        ~ What is the purpose of Penstock?""",
        "Penstock is an inference appliance for DeepSeek-V3-class mixture-of-experts models. It streams the experts that "
        "each token needs from an NVMe drive.",
        ["inference appliance", "experts"],
    ),
    (
        """What does the name Penstock mean?
        @ the name Penstock|the word penstock|the origin of the name
        [Why|How come] [the|this] [strange|odd|funny|] name?
        [Where|From where] [did|does] [the|that] name come[?| from?]
        [Who called it|Why do you call it|Why did they name it] Penstock?
        What is a penstock in [a dam|a power plant|English]?
        Why is it called Penstock?
        Where does the name Penstock come from?
        What is a penstock?
        What does the word penstock mean?
        Why the name Penstock?
        Explain the name Penstock.
        ~ What is the meaning of the name Penstock?
        ~ How did Penstock get its name?""",
        "A penstock is the pipe that carries water from a reservoir, through a gate, to a turbine. Here the reservoir is the "
        "drive, the gate is the model's router and the turbine is the GPU or CPU.",
        ["pipe", "reservoir"],
    ),
    (
        """Which models does Penstock run?
        @ supported models|the models that run|model support|DeepSeek-R1|Kimi K2|Moonlight
        [Does|Can|Will] [Penstock|it] [run|serve|load|work with|support] [DeepSeek-V3.1|V3.1|R1|DeepSeek-V2|Kimi|Kimi K2|Moonlight|DeepSeek-R1]?
        [What|Which] [models|checkpoints|networks|LLMs] [can it|does it|can a node|may I] [serve|load|run|use]?
        [Is|Are] [R1|Kimi K2|V3.1|Moonlight|DeepSeek models] [supported|possible|among the models]?
        [List|Name|Tell me] the [models|checkpoints] that [run|are supported|work].
        Which models are supported?
        What models can I run?
        Can Penstock run DeepSeek-V3?
        Can Penstock run DeepSeek-R1?
        Can I run DeepSeek with Penstock?
        Does Penstock support Kimi K2?
        Does Penstock run Moonlight?
        Which model families does Penstock support?
        Does Penstock run V2-Lite?
        ~ What models work with Penstock?
        ~ Is DeepSeek-V3 supported by Penstock?""",
        "Penstock runs DeepSeek-V3 and its relatives: V2, V3, V3.1, R1, Moonlight and Kimi K2.",
        ["deepseek-v3", "relatives"],
    ),
    (
        """Can Penstock run llama?
        @ Llama|Qwen|Mistral|Gemma|GGUF files|other model families
        [Does|Can|Will] [Penstock|it] [run|serve|load|work with|support] [Llama 3|Qwen|Mistral|Mixtral|Gemma|Phi|GPT-2|GGUF|Falcon|BERT]?
        [Is|Are] [Llama|Mistral|Mixtral|Gemma|GGUF files|other families|dense models] supported?
        [May|Could|Can] I [use|load|take] [a Llama checkpoint|a Qwen model|Mistral|Gemma|a GGUF model]?
        Does it run models other than DeepSeek?
        Does Penstock support Llama models?
        Can I run Qwen with Penstock?
        Does Penstock run GPT-2?
        Can Penstock run Mistral?
        Does it support Gemma?
        Can I use a GGUF file with Penstock?
        ~ Will a Llama model work with Penstock?
        ~ Is Qwen supported?""",
        "No. Penstock runs only the DeepSeek-V3 family.",
        ["only the deepseek-v3 family"],
    ),
    (
        """Does the model have to fit into memory?
        @ models larger than memory|too little RAM|big models on a small machine
        [My|The|This] model is [larger|bigger|greater] than [my|the] [RAM|memory|GPU].
        [How much|What] [memory|RAM] [do I need|is needed|is necessary] for a [big|large|huge] model?
        [Can|Does|Will] a [small machine|laptop|PC with little RAM|machine with 16 GB] [run|serve] a [huge|big|large] model?
        [Must|Does] the [whole|entire] model [be in memory|fit in RAM|be loaded]?
        [I have only|With only] [16|32|64] GB of RAM[. Is that enough?|, can I run it?|. Can I run DeepSeek-V3?]
        Can I run a model that is larger than my RAM?
        What if the model is bigger than memory?
        How can a model larger than memory run?
        How much RAM do I need for DeepSeek-V3?
        My model does not fit into RAM.
        Can it run a model larger than the GPU memory?
        How does Penstock run such large models?
        ~ Is it possible to run a model that does not fit in memory?
        ~ What happens with a model larger than RAM?""",
        "A model larger than RAM and GPU memory runs too: routed experts are read from the drive on demand, at the speed the "
        "drive allows.",
        ["from the drive on demand"],
    ),
    (
        """What are the promises of Penstock?
        @ the promises|the six promises|PROMISES|the guarantees
        [How many|Which] [promises|guarantees] [are there|does it make|does it give]?
        [What|Which things] [is promised|are promised|does Penstock guarantee|does it guarantee]?
        [Tell me|Give me|Write down] [the|all] [promises|guarantees].
        What does Penstock promise?
        Which promises does Penstock make?
        List the promises.
        What is in the file PROMISES?
        What guarantees does Penstock give?
        ~ What can I rely on with Penstock?
        ~ Name Penstock's promises.""",
        "Penstock promises six things: any size, faithful, deterministic, unkillable, closed and small.",
        ["any size, faithful, deterministic, unkillable, closed and small"],
    ),
    (
        """What does deterministic mean for Penstock?
        @ determinism|reproducible answers|repeatability
        [Does|Will] [the load|the cache|the number of cores|the instruction set|the batch size|another user] [change|influence|affect] [the answer|the tokens|the output|my reply]?
        [Will|Do] I [get|see] [the same answer|the same output|identical tokens] [again|twice|every time|with the same seed]?
        [Is|Are] the [output|answers|replies|tokens] [reproducible|deterministic|always the same|identical each time]?
        Why do I get the same answer twice?
        Is Penstock deterministic?
        Do I get the same tokens every time?
        Are the answers reproducible?
        Does the number of threads change the answer?
        Does the batch change the tokens?
        Does the cache change the answer?
        Will the same seed give the same answer?
        ~ Are results repeatable with Penstock?
        ~ Do other requests change my reply?""",
        "Penstock is deterministic: the same prompt, seed and model give the same tokens, whatever the load, threads, cache or "
        "instruction set.",
        ["same prompt, seed and model", "same tokens"],
    ),
    (
        """What does faithful mean?
        @ faithfulness|exactness|approximations|the promise faithful
        [Is|Are] [the weights|the experts|the numbers] [changed|pruned|rounded|dropped|skipped]?
        [Does|Will] [Penstock|it|a node] [drop|leave out|approximate|cut|simplify] [experts|anything|weights|parts of the model]?
        [How exact|How correct|How precise] [is it|are the logits|are the answers|is the computation]?
        Do the logits agree with the reference?
        Are the answers exact?
        Does Penstock approximate the model?
        Is anything pruned or skipped?
        Does Penstock skip experts?
        Are the logits right?
        Does Penstock change the model?
        ~ Is the model computed exactly?
        ~ Does Penstock leave anything out of the model?""",
        "Faithful means that logits agree with the reference and nothing is pruned, skipped or approximated unless you ask for "
        "it by name.",
        ["nothing is pruned, skipped or approximated"],
    ),
    (
        """What happens when a server dies?
        @ crashes|dying servers|fault tolerance|killed processes|the promise unkillable
        [What|What happens] [if|when] [a process|one process|the router|mla|the gateway|experts|a server] [dies|crashes|is killed|fails|stops|ends suddenly]?
        [Do I lose|Will I lose|Do we lose] [my reply|the answer|my request|the conversation] [when|if] [a server crashes|something crashes|a process dies]?
        [Does|Can|Will] [a node|Penstock|it] [survive|get over|recover from] [a crash|kill -9|the death of a server]?
        [kill -9|A crash|A segfault]: what then?
        What happens if a process crashes?
        What if I kill a server?
        Can I kill a server?
        What does unkillable mean?
        Is Penstock fault tolerant?
        Does my reply survive a crash?
        What happens when a server is killed?
        What happens after a crash?
        How does Penstock handle crashes?
        ~ What if one of the servers crashes in the middle of a reply?
        ~ Does a crash stop my answer?
        ~ A server was killed. What now?""",
        "init notices the death and a warm spare goes on where the dead server stood. Replies continue byte for byte within "
        "milliseconds.",
        ["warm spare", "continue byte for byte"],
    ),
    (
        """What does closed mean?
        @ the sandbox|security|the promise closed|isolation of servers
        [Is|Are] [it|a node|the servers|the processes] [safe|secure|isolated|sandboxed|locked down]?
        [Can|Could|May] [a server|a process|the gateway|mla|an attacker] [open files|use the network|read my files|call the system|reach the internet]?
        [Which|What] [rights|permissions|system calls] [has|does] a server[?| have?]
        Does Penstock use seccomp?
        Is Penstock secure?
        Are the servers sandboxed?
        Can a server open files?
        Can a server use the network?
        What is the sandbox?
        How are the servers protected?
        Which system calls may a server use?
        ~ How safe are the servers?
        ~ May a server do more than its job?""",
        "Closed means that each server is sandboxed: no network, no file it was not handed, and no system call it does not need.",
        ["sandboxed", "no network"],
    ),
    (
        """Why is Penstock built like a microkernel?
        @ the architecture|the processes of a node|the servers|the structure of a node|the microkernel design
        [Which|What] [servers|processes|parts|components] [are there|make up a node|does a node consist of|belong to a node|run in a node]?
        [How many|What] [servers|processes] [are there|run|does it start|make a node]?
        [Explain|Describe|Sketch] the [design|architecture|structure|layout] [of Penstock|of a node|].
        What is a node [made of|composed of]?
        What is the architecture of Penstock?
        How is Penstock built?
        Is Penstock a microkernel?
        How many processes has a node?
        What processes are there?
        Which servers does a node have?
        List the servers of a node.
        Which processes run on a node?
        What are the parts of Penstock?
        ~ How is a node put together?
        ~ Name the processes of Penstock.""",
        "A node is a small set of processes: init, gateway, router, mla, experts, loader and scribe, and cuda where there is a "
        "GPU. They share memory and can each die and come back.",
        ["init, gateway, router, mla, experts, loader and scribe"],
    ),
    (
        """How does a token pass through a node?
        @ the circle|the way of a token|a forward pass|the order of the servers
        [How|In what order] does [a pass|a token|the work|a request] [go|move|travel|run] through [the servers|a node|the processes]?
        [Which|What] server [comes first|works after mla|comes after router|comes after the gate]?
        [Who|Which server] does what [in a layer|for a token|in a pass]?
        Describe [the path of a token|one forward pass|what happens to a token].
        How is a token computed?
        What is the circle?
        How does a forward pass work?
        In which order do the servers work?
        What happens in one layer?
        How does a pass go through the servers?
        Explain the circle of a pass.
        ~ What way does a token take through the servers?
        ~ How do the servers work together for one token?""",
        "For each layer a pass goes from mla to router, whose gate picks the experts, then to experts, and on to the next "
        "layer's mla. At the end router samples the token.",
        ["from mla to router", "then to experts"],
    ),
    (
        """How do the servers talk to each other?
        @ rings|messages between servers|shared memory|communication of the processes
        [How|By what means|With what] do [servers|processes|mla and router|the programs] [talk|communicate|exchange data|send messages|work together]?
        [How big|How long|How many bytes] is [a message|a ring message|one message]?
        [Is there|Do they use] [shared memory|a message queue|sockets between servers|a bus]?
        How do the processes communicate?
        What is a ring?
        What are rings for?
        How are messages passed?
        How large is a message?
        What connects the servers?
        ~ In which way do the servers exchange messages?
        ~ What is used between the processes?""",
        "The servers talk through rings in shared memory: one producer, one consumer, messages of 64 bytes.",
        ["rings in shared memory", "64 bytes"],
    ),
    (
        """What is a commit word?
        @ the commit word|committing|the state of a server|how a successor goes on
        [How|From where] does [a successor|a restarted server|a spare|the next process] [know where to go on|find its state|resume|take over]?
        [What|Which state] [does a server commit|is kept for a restart|survives a crash of a server]?
        What are the two records for?
        How does a server commit?
        What is committed?
        How does a successor know where to go on?
        How does a restarted server continue?
        What state does a server have?
        ~ How does a new server find its place?
        ~ What makes a step of a server final?""",
        "Each server has one commit word: a version that selects one of two records. A successor reads the record and goes on "
        "from there.",
        ["one commit word"],
    ),
    (
        """What is an expert?
        @ experts|routed experts|mixture of experts|shared experts|MoE
        [What|Which thing] [is|do you call] [an expert|a routed expert|the shared expert|MoE] [in a model|in DeepSeek|here|]?
        [Explain|Define|Describe] [an expert|the experts|mixture-of-experts|MoE|a MoE model|the shared expert].
        [How many|Which] experts [does a token use|work on a token|are used]?
        What are experts?
        What is a routed expert?
        What is a mixture of experts?
        What does MoE mean?
        What is a shared expert?
        Explain experts.
        Explain mixture of experts.
        ~ What is meant by an expert in the model?
        ~ How does a mixture-of-experts model work?""",
        "An expert is a feed-forward network of a layer. The gate picks a few routed experts for each token; the shared expert "
        "is used by all.",
        ["feed-forward", "gate picks"],
    ),
    (
        """What is the gate?
        @ the gate|routing|the choice of experts|the selection of experts|the router of the model
        [Who|What] [chooses|selects|picks|decides on] [the experts|experts|which expert is used]?
        [How|By what] [are|is] [the experts|an expert] [selected|picked|chosen|scored] [for a token|]?
        [Explain|Describe] [routing|the gate|how routing works|expert selection|grouped routing].
        What does the gate do?
        How are experts chosen?
        How does the gate work?
        Who picks the experts?
        How does the model choose its experts?
        What is routing?
        ~ In which way does the gate select experts?
        ~ What decides which experts are used?""",
        "The gate is the model's own router: it scores all experts for a token and picks the best ones, from a few groups.",
        ["scores all experts"],
    ),
    (
        """What is a slot?
        @ slots|expert slots|the expert cache|the fewest slots
        [How many|What number of] slots [are needed|does a node need|are enough|do I want]?
        [Where|In what] [does a node keep|are] experts [held|stored|cached|][ in RAM|]?
        [Is|Are] [two slots|few slots|three slots] enough?
        [Explain|Define] [a slot|an expert slot|slots].
        What is an expert slot?
        What are slots for?
        How many slots do I need?
        Where are experts kept in memory?
        What is the fewest number of slots?
        Explain slots.
        ~ What does slot mean here?
        ~ What do you call the memory of one expert?""",
        "A slot is the memory for one expert. Two slots are the fewest with which a node runs; more slots mean more hits.",
        ["memory for one expert"],
    ),
    (
        """How are experts read from the drive?
        @ reading from the drive|io_uring|O_DIRECT|streaming of experts|the page cache
        [How|In what way] [does it|does a node|do the experts] [read|load|get|fetch|come from] [the drive|the SSD|the disk|experts from disk|weights from NVMe]?
        [Is|Does it use] [io_uring|O_DIRECT|mmap|the page cache|direct I/O] [used|for reads|]?
        [Explain|Describe] [streaming|how weights are streamed|reads from the drive|expert loading].
        How does Penstock read the drive?
        Does Penstock use io_uring?
        Does Penstock use the page cache?
        What is O_DIRECT used for?
        How do the weights come from the NVMe drive?
        How does streaming work?
        How does expert streaming work?
        ~ By which means are experts loaded from disk?
        ~ What does Penstock use to read from the SSD?""",
        "Experts are read with io_uring and O_DIRECT straight into slots, many reads at once; the page cache is not used.",
        ["io_uring", "o_direct"],
    ),
    (
        """What is a hint?
        @ hints|prefetching|guessing the next experts|reading ahead
        [Does|Can|Will] [Penstock|it|a node] [prefetch|read ahead|guess experts|load experts early|predict experts]?
        [Explain|Define|Describe] [a hint|hints|prefetching|prefetch].
        How does the drive [stay|keep] busy?
        [Can|Does] a hint [delay|slow down|block] [a read|something]?
        What are hints for?
        Does Penstock prefetch experts?
        How does Penstock guess the next experts?
        What is prefetching?
        Explain hints.
        ~ Does Penstock read experts in advance?
        ~ What is a hint good for?""",
        "A hint is a guess which experts the next layer needs, so that the drive stays busy. It never delays a read that is needed.",
        ["guess", "next layer"],
    ),
    (
        """What is a store?
        @ stores|packed stores|model formats|checkpoints|safetensors|file formats
        [Must|Do I have to|Should I|Need I] [convert|change|repack|transform] [a model|my model|the checkpoint|the weights][?| first?]
        [Which|What] [format|file format|form|kind of file] [is needed|does it read|must a model have|does a model come in|is supported]?
        [Can|Does] [it|Penstock|a node] [open|read|use] [safetensors|a Hugging Face model|a Hugging Face folder|a checkpoint directory]?
        What is a packed store [for|good for]?
        What is a packed store?
        What is the difference between a checkpoint and a store?
        Do I need to convert a model?
        Must I convert my checkpoint?
        Which formats does Penstock read?
        Which file format does Penstock use?
        What is MODEL on the command line?
        Does Penstock read safetensors?
        ~ In which form must a model be?
        ~ Is a conversion of the model needed?""",
        "A model is a Hugging Face checkpoint directory, opened as it is without conversion, or a packed store made by "
        "`penstock pack`.",
        ["without conversion", "packed store"],
    ),
    (
        """What is MLA?
        @ MLA|latent attention|the attention|the latent
        [Explain|Define|Describe] [MLA|latent attention|the latent|multi-head latent attention|DeepSeek's attention].
        [How|In what way] [does the attention work|is attention done|are keys and values kept]?
        [Why|How] [is|does] the KV cache [small|so small|little|stay small]?
        [What|Which] attention [is used|does it have|does DeepSeek use]?
        What does MLA mean?
        What is multi-head latent attention?
        How does attention work in DeepSeek-V3?
        What is the latent?
        Explain MLA.
        Why is the KV cache so small?
        ~ What kind of attention does the model use?
        ~ What is latent attention?""",
        "MLA is multi-head latent attention: keys and values are kept as one small latent per token, so the KV cache is small.",
        ["multi-head latent attention"],
    ),
    (
        """What is the KV cache?
        @ the KV cache|KV pages|pages of the KV cache|the size of a page
        [How many|What number of] [positions|tokens] [fit into|are in|has|does] a [page|KV page][?| hold?]
        [Who|Which server] [owns|keeps|has] the [KV cache|KV|pages]?
        [How|Where] [are|is] [earlier tokens|the KV|keys and values|the latents] [stored|kept|organised]?
        How large is the KV cache?
        What is a KV page?
        How many positions has a page?
        How is the KV cache organised?
        How is the KV stored?
        ~ In which units is the KV cache kept?
        ~ How big is a page of the KV cache?""",
        "The KV cache holds the latents of earlier tokens, in pages of 256 positions for all layers. mla owns it.",
        ["pages of 256 positions"],
    ),
    (
        """What is MTP?
        @ MTP|multi-token prediction|speculative decoding|speculation|draft tokens
        [Does|Will|Can] [MTP|speculation|speculative decoding|drafting] [change|alter|affect] [the tokens|the answer|the output|the result]?
        [Explain|Define|Describe] [MTP|multi-token prediction|speculative decoding|the MTP module].
        [Why|How] [does MTP make it faster|does speculation work|is a token guessed]?
        [What|Who] guesses the token after next?
        What does MTP mean?
        What is multi-token prediction?
        What is speculative decoding?
        Does Penstock use speculation?
        Does MTP change the tokens?
        Explain MTP.
        ~ What is the MTP module for?
        ~ How does multi-token prediction help?""",
        "MTP is multi-token prediction: a small module guesses the token after next, and the model checks it. It changes the "
        "speed, never the tokens.",
        ["multi-token prediction", "never the tokens"],
    ),
    (
        """What is YaRN?
        @ YaRN|context extension|rotary positions
        [Explain|Define|Describe] [YaRN|context extension|how the context is stretched].
        [How|By what] is the [context|context length] [stretched|extended|made longer]?
        [Why|When] [is YaRN used|do models need YaRN|do I need YaRN]?
        What does YaRN do?
        How is the context extended?
        Explain YaRN.
        What is YaRN for?
        ~ How does the model reach a longer context?
        ~ What is YaRN good for?""",
        "YaRN stretches the rotary positions so that a model works on a longer context than it was first trained on.",
        ["longer context"],
    ),
    (
        """What is FP8?
        @ FP8|E4M3|the weights' format|block scales|the precision of the weights
        [Explain|Define|Describe] [FP8|E4M3|block scales|the weight format].
        [How many|What number of] [bits|bytes] [has|does|is] a weight[?| have?| take?]
        [How|In which precision|In what type] are [the weights|weights|parameters] [stored|kept|held|saved]?
        What are the [scales|scale factors|128x128 blocks] for?
        What is E4M3?
        Which number format do the weights have?
        How are the weights stored?
        What are block scales?
        What does 128x128 mean?
        What precision do the weights have?
        ~ In what format are weights kept?
        ~ What is an FP8 checkpoint?""",
        "Weights are stored as FP8 E4M3, one byte each, with one scale for every block of 128x128.",
        ["fp8", "128x128"],
    ),
    (
        """What is prefill?
        @ prefill|decode|prefill and decode|the first token
        [Explain|Define|Describe] [prefill|decode|the two phases|prefill and decode].
        [Why|How come] [does the first token take|is the first token|does it take] so long[?| at first?]
        [How|In what way] is [a prompt|the prompt|my prompt] [read|processed|computed]?
        What [comes|happens] [before decode|in prefill|in decode]?
        What is a prefill chunk?
        What is the difference between prefill and decode?
        What is decode?
        Explain prefill.
        Why does the first token take longer?
        ~ What do prefill and decode mean?
        ~ Why is the start of a reply slow?""",
        "Prefill reads the prompt in chunks; decode makes one token at a time. In prefill each expert is read once per chunk.",
        ["prefill reads the prompt"],
    ),
    (
        """Does Penstock need a GPU?
        @ GPUs|CUDA|running without a GPU|graphics cards|the CPU only
        [Must I have|Should I have|Is there a need for|Do I have to own] [a GPU|an NVIDIA card|a graphics card|CUDA]?
        [Does|Will|Can] [it|Penstock|a node] [run|work|start] [on a CPU|on the CPU only|without CUDA|with no graphics card|without an NVIDIA card]?
        [I have no|What if I have no|There is no] [GPU|graphics card][.| here.| in my machine.|?]
        [Can|Does] [it|Penstock] use [my GPU|an NVIDIA GPU|the graphics card]?
        Do I need a GPU?
        Can Penstock run without a GPU?
        Does Penstock run on the CPU?
        Can I use my graphics card?
        Does Penstock support CUDA?
        Which GPUs are supported?
        ~ Is a graphics card required?
        ~ Will it run on a machine without a GPU?""",
        "A GPU is optional. Where there is one, the cuda process uses it; without it the CPU does the work, with the same tokens.",
        ["gpu is optional"],
    ),
    (
        """What is the default socket?
        @ the default socket|the socket path|the place of the socket
        [Where|At which place|In which directory] [is|lies|do I find|can I find] the [socket|Unix socket|API socket]?
        [What|Which] [path|file|name] [has|does] the [socket|Unix socket][?| have?]
        [I look for|I cannot find|Where is] the socket file[.|?]
        Where is the socket?
        Where does Penstock listen?
        What is the path of the socket?
        Which socket does Penstock use?
        Where do I find the socket of a node?
        ~ At which path is the socket?
        ~ On which socket does a node listen?""",
        "The socket is /run/penstock/penstock.sock, or in $XDG_RUNTIME_DIR where that cannot be used.",
        ["/run/penstock/penstock.sock"],
    ),
    (
        """Which port does Penstock use?
        @ ports|TCP|the network|remote access|listening on a port
        [What|Which] [TCP port|port number|port] [is used|does it open|does a node use|is it]?
        [Can|How can|May] [I|others|another machine|a remote client] [reach|use|call] [it|a node|Penstock] [over the network|over TCP|from outside|remotely|from another computer]?
        [Does|Is] [it|Penstock|a node] [listen on TCP|open a port|reachable from the internet|on localhost]?
        [Do I need|Should I use] a [proxy|reverse proxy]?
        Does Penstock listen on a port?
        Can I reach Penstock over the network?
        Can Penstock listen on TCP?
        How do I reach a node over the network?
        Does Penstock open a port?
        ~ On which port does a node listen?
        ~ Is there a TCP port?""",
        "Penstock opens no port: it listens on a Unix socket only. Put an HTTP proxy such as nginx or HAProxy before it.",
        ["unix socket only"],
    ),
    (
        """How do I use the API?
        @ the API|the OpenAI API|curl|client libraries|the HTTP API
        [How|With what|In what way] do [I|programs|applications|scripts] [call|use|talk to|access|reach] [the API|a node|Penstock]?
        [Is|Does] the API [like OpenAI's|OpenAI compatible|compatible|follow OpenAI]?
        [Can|May|Could] I [use|take] [curl|Python|the openai package|an OpenAI client|my usual client]?
        [Give me|Show me] [a curl example|how to call the API|an example of the API].
        Which API does Penstock have?
        Is there an API?
        Is the API compatible with OpenAI?
        Can I use the OpenAI client?
        How do I call Penstock with curl?
        How can I use curl with Penstock?
        How do programs talk to a node?
        What does the API look like?
        ~ In which way can my program use a node?
        ~ Does Penstock speak the OpenAI protocol?""",
        "The API is OpenAI's, on a Unix socket: use `curl --unix-socket PATH` or the usual client libraries.",
        ["openai", "--unix-socket"],
    ),
    (
        """How do I stream a reply?
        @ streaming replies|server-sent events|stream
        [How|In what way] do I [stream|get a stream|receive tokens one by one|see the reply as it grows]?
        [Can|Does|Will] [the API|a node|it] [stream|send tokens as they come|send events]?
        [What|Which field] [ends a stream|switches streaming on|do I set for streaming|starts a stream]?
        Does the API stream?
        How do I get tokens as they come?
        What does stream do?
        How does a stream end?
        ~ Can I get the reply piece by piece?
        ~ How do I switch on streaming?""",
        'Set "stream": true. The reply comes as server-sent events and ends with data: [DONE].',
        ["stream", "[done]"],
    ),
    (
        """How do I turn on thinking?
        @ thinking|reasoning|the thinking mode|reasoning_content
        [How|In what way|With what] do I [turn on|switch on|enable|activate|turn off|disable|get|see] [thinking|reasoning|the reasoning|the thoughts|thinking mode]?
        [Where|In which field] [is|do I find|comes] the [reasoning|thinking|chain of thought]?
        [Can|May|Could] the model [think|reason] [first|before it answers|]?
        How do I enable reasoning?
        How do I make the model think?
        What is thinking mode?
        How do I see the reasoning?
        How do I turn off thinking?
        Where is the reasoning in the reply?
        ~ How can I switch the reasoning on?
        ~ How do I use thinking over the API?""",
        'Set "thinking": true in the request. The reasoning comes apart from the answer, as reasoning_content.',
        ["thinking", "reasoning_content"],
    ),
    (
        """Does Penstock support tools?
        @ tools|tool calls|function calling|functions
        [Does|Can|Will] [the API|the model|Penstock|it] [call functions|do tool calls|use tools|support functions|take tools]?
        [Are|Is] [tool calls|tools|function calling|functions] [supported|available|possible|allowed][?| yet?]
        [I want to use|How do I use|Can I pass] [tools|functions|tool calls][.|?]
        Can I use function calling?
        Does the API support tool calls?
        Are tools supported?
        Can the model call functions?
        ~ Is function calling possible?
        ~ Do tools work with the API?""",
        "Not yet: `penstock template` renders tools, but the API refuses them until it can parse the calls.",
        ["refuses"],
    ),
    (
        """Can I get several choices at once?
        @ unsupported options|logprobs|n greater than 1|unknown fields
        [Does|Will|Can] [the API|it|a node] [support|accept|take|ignore] [logprobs|n=2|best_of|logit_bias|unknown fields|unsupported options]?
        [What|What happens] [with|about|to] [fields it does not know|an unsupported option|an option without effect|logit_bias]?
        [I want|Give me|Can I have] [two|three|several|more] [choices|answers|completions] [at once|per request].
        Does the API support n greater than 1?
        Does Penstock support logprobs?
        Which options are not supported?
        What happens with an unknown field?
        Are unsupported options ignored?
        ~ What does the API do with options it does not know?
        ~ Is an unknown option ignored?""",
        "Nothing is ignored in silence: an option without effect is accepted only at its neutral value, else the answer is 400.",
        ["neutral value", "400"],
    ),
    (
        """How do I stop a reply?
        @ stopping a reply|Ctrl-C|interrupting the model|cancelling
        [How|In what way|With what key] do I [stop|cancel|interrupt|abort|break off] [a reply|the reply|an answer|the model|the output|generation]?
        [What|What happens] [on|with|if I press|after] Ctrl-C?
        [The model|It] [talks too much|does not stop|goes on and on][.|. How do I stop it?]
        [Stop|Cancel|Abort] [the answer|a running reply|it].
        How do I stop the model?
        What does Ctrl-C do?
        How do I cancel an answer?
        What happens when I press Ctrl-C?
        ~ How can I interrupt a reply?
        ~ The answer is too long, how do I stop it?""",
        "Ctrl-C stops the reply and not the program. Over the API, closing the connection stops it within one token.",
        ["stops the reply"],
    ),
    (
        """How do I stop a node?
        @ stopping a node|shutdown|SIGTERM|ending Penstock
        [How|In what way|With what] do I [stop|end|quit|terminate|shut down|close|turn off] [a node|the node|Penstock|the server|the program|everything]?
        [What|What happens] [on|at|during|after] [shutdown|SIGTERM|the end of a node]?
        [Stop|End|Shut down] [the node|Penstock|the server].
        How do I shut down Penstock?
        How do I end a node?
        What does SIGTERM do?
        How do I quit Penstock?
        What happens at shutdown?
        ~ How can I stop Penstock?
        ~ What is the right way to shut a node down?""",
        "Send SIGTERM or press Ctrl-C: new requests get 503, running replies have 30 s to finish, then the node ends.",
        ["sigterm", "30 s"],
    ),
    (
        """How do I build Penstock?
        @ building|compiling|the build|build.sh|the programs after the build
        [How|With what|In what way] do I [build|compile|make] [it|Penstock|the program|the source|everything]?
        [Where|In which folder] [are|do I find|lie] the [binaries|programs|executables]?
        [What|Which command] [builds it|compiles the source|makes the binaries|do I run to build]?
        Is there a [Makefile|build script]?
        How do I compile Penstock?
        What do I need to build Penstock?
        How is Penstock built from source?
        What is build.sh?
        Where are the programs after the build?
        ~ How can I compile it?
        ~ Which command builds Penstock?""",
        "Run `./build.sh build`. The programs are then in build/bin/.",
        ["./build.sh build"],
    ),
    (
        """How do I try Penstock?
        @ getting started|the first steps|trying it out|a quick start|./build.sh run
        [How|Where|With what] do I [begin|start|try it|try it out|get going]?
        [What|Which command] [do I type first|is the first step|starts the demo|lets me try it|opens a demo chat]?
        [I want to|Let me|I would like to] [try|test|see] [it|Penstock|the demo][.| quickly.]
        Is there a [quick start|tutorial|first step]?
        How do I start?
        How do I get started?
        How do I begin with Penstock?
        What is the quickest way to try it?
        How do I run the demo?
        How do I start the demo model?
        What does ./build.sh run do?
        ~ I am new here. What should I do first?
        ~ How can I try the demo?""",
        "Run `./build.sh build` once, then `./build.sh run`: it starts a node on the demo model and opens a chat.",
        ["./build.sh run", "demo model"],
    ),
    (
        """How do I run the tests?
        @ the tests|testing|the test suite|prove and TAP
        [How|With what|In what way] do I [test|run the test suite|run tests|check my build]?
        [Is|Are] there [tests|a test suite]?
        [What|Which command] [runs the tests|tests the build|is for testing]?
        How is Penstock tested?
        What does ./build.sh test do?
        How do I test my build?
        Which tests are there?
        ~ How can I run all tests?
        ~ What command starts the tests?""",
        "Run `./build.sh test`. The tests speak TAP and are run by prove.",
        ["./build.sh test"],
    ),
    (
        """What is the demo model?
        @ the demo model|the included model|the model in images/demo
        [Is|Are] there [a model|any weights|models] [included|with it|in the repository|to try]?
        [How|What] [big|large|size] is the [demo|demo model|included model]?
        [Where|In which folder] [is|lies|do I find] the demo[?| model?]
        [Must|Do|Should] I [download|fetch|get] [weights|a model][?| first?]
        Which model comes with Penstock?
        Where is the demo model?
        How large is the demo model?
        Is there a model included?
        Do I have to download a model?
        ~ What model is included in the project?
        ~ Do I need the internet for a first try?""",
        "The demo model is a tiny DeepSeek-V3 of about 17 million parameters in images/demo. It needs no download.",
        ["demo model", "images/demo"],
    ),
    (
        """Which licence does Penstock have?
        @ the programming language|the language of the source|C17|musl
        [What|Which] language [is it|is Penstock|is the source|is the code] [written in|in]?
        [Is|Was] [it|Penstock|the code] [written|made|programmed] in [Python|Rust|C++|Go|C|Java]?
        [How|With what] is it linked?
        In which language is Penstock written?
        What is Penstock written in?
        Is Penstock written in Rust?
        Is Penstock written in C?
        Which programming language does Penstock use?
        ~ What language was used to write Penstock?
        ~ Is Penstock a C program?""",
        "Penstock is written in C17 and linked statically with musl.",
        ["c17", "musl"],
    ),
    (
        """Which libraries does Penstock use?
        @ libraries|dependencies|third-party code|yyjson|llhttp|liburing
        [What|Which] [libraries|packages|third-party code] [does it need|are used|are inside|does it link]?
        [Does|Is] [it|Penstock] [use|depend on|need] [PyTorch|liburing|PCRE2|OpenSSL|libcurl|llhttp|yyjson]?
        [How|By what] [is JSON parsed|is HTTP parsed|are regular expressions done]?
        What are the dependencies?
        What does Penstock depend on?
        Which JSON library is used?
        Which HTTP parser is used?
        ~ What third-party code does Penstock use?
        ~ On which libraries is Penstock built?""",
        "Penstock uses musl, liburing, yyjson, PCRE2 and llhttp, and CUDA where there is a GPU.",
        ["liburing, yyjson, pcre2 and llhttp"],
    ),
    (
        """What if I have several drives?
        @ several drives|striping|two SSDs|more drives
        [Can|Does|Will] [it|Penstock|a node] [use|take|read from|profit from] [two drives|several SSDs|more drives|many disks|RAID]?
        [What|How] [about|do I use|with] [two NVMe drives|several SSDs|four drives|more than one SSD]?
        [I have|There are] [two|three|four] [drives|SSDs|NVMe drives][.| here.]
        Can I use more than one drive?
        Does Penstock stripe over drives?
        Can I use two SSDs?
        How do I use several drives?
        ~ Are several drives faster?
        ~ Does it help to have more SSDs?""",
        "With several drives each expert is striped across them, so their speeds add up.",
        ["striped"],
    ),
    (
        """Can I use several machines?
        @ several machines|scaling|more users|clusters|load balancers
        [How|In what way] do I [scale|serve more people|handle more load|use two machines]?
        [Can|Does|Will] [it|Penstock|a model] [run on|use|spread over|span] [a cluster|two machines|several computers|many hosts]?
        [One node|One machine] [is not enough|is too slow for all my users|is too little][.|. What now?]
        How do I serve more users?
        How does Penstock scale?
        Can one model run on several machines?
        What if one node is not enough?
        ~ How can I serve many users?
        ~ Does Penstock scale beyond one machine?""",
        "A node is one machine. For more users put more nodes behind a balancer such as HAProxy, nginx or Envoy.",
        ["more nodes", "balancer"],
    ),
    (
        """What limits the speed?
        @ speed|performance|tokens per second|what makes it slow
        [How|What] [fast|quick|speed] [is it|is a node|will it be|can I expect]?
        [Why|How come] [is it|is my node|are replies] [slow|so slow|not faster]?
        [How|In what way] [can I|do I|could one] [speed it up|make it faster|get more tokens per second|improve the speed]?
        [What|Which part] is the bottleneck?
        Why is it slow?
        Why is Penstock so slow?
        How do I make it faster?
        How fast is Penstock?
        How many tokens per second do I get?
        What makes Penstock faster?
        ~ What determines the speed of a node?
        ~ My node is slow. What helps?""",
        "The drive limits the speed: each token needs its experts. More RAM for slots, faster drives or a GPU help; `penstock "
        "bench` shows the limits.",
        ["drive limits the speed"],
    ),
    (
        """How does Penstock boot?
        @ booting|boot images|a bootable node|PID 1
        [Can|Does|Will] [it|Penstock|a machine] [boot|start] [without Linux|from a disk|by itself|on bare metal|as a virtual machine]?
        [What|Which things] [is in|are in|belong to] [a boot image|a bootable disk|the image]?
        [Who|What] is PID 1?
        What is a bootable node?
        Can Penstock boot by itself?
        What is in a boot image?
        Can I boot a machine into Penstock?
        Does Penstock need an operating system?
        ~ What does a boot image consist of?
        ~ Can a machine run nothing but Penstock?""",
        "A boot image is a Linux kernel and a handful of static binaries; init is PID 1. `penstock image` makes it.",
        ["kernel", "static binaries"],
    ),
    (
        """What happens when the drive has an error?
        @ drive errors|failed reads|damaged experts|corrupt weights|short reads
        [What|What happens] [if|when] [the SSD fails|a read fails|the drive breaks|an expert is corrupt|weights are damaged|a sector is bad]?
        [How|In what way] [does it|does a node|does Penstock] [handle|treat|survive|react to] [read errors|drive errors|damaged weights|I/O errors]?
        [I/O error|Read error|Bad sector][.|: what happens?|?]
        What if a read fails?
        What happens on a short read?
        What if an expert is damaged?
        What happens if the weights are corrupt?
        How are drive errors handled?
        ~ What does a node do about a bad expert?
        ~ The drive reports an error. What happens?""",
        "A short read is continued and an error retried, then named. The replies that need a damaged expert end with an error; "
        "the node goes on.",
        ["retried", "named"],
    ),
    (
        """How does Penstock sample?
        @ sampling|the sampler|the seed|choosing the next token
        [How|By what] [is|are] [a token|the next token|tokens] [sampled|chosen|drawn|selected]?
        [What|Which seed] [is used without a seed|happens if I give no seed|does sampling depend on]?
        [Explain|Describe] [sampling|the sampler|how tokens are chosen|seeds].
        What does temperature 0 do?
        Is sampling random?
        How is the next token chosen?
        What is the sampler?
        How is the seed chosen?
        ~ By what rule is a token picked?
        ~ What does the sampler depend on?""",
        "The sampler is a pure function of logits, options, seed and position. Without a seed a fresh one is drawn and returned.",
        ["pure function", "seed"],
    ),
    (
        """What happens to a second request?
        @ parallel requests|several users|the queue|a busy node|429
        [How many|What number of] [requests|users|people|replies] [at once|run together|can it serve|fit]?
        [What|What happens] [if|when] [many requests come|a node is full|everybody asks at once|the queue is full]?
        [Can|May|Could] [my colleagues|several people|many users|others] [use it|ask|use one node] [at the same time|at once|together]?
        Can several people use a node at once?
        How many requests run at once?
        What happens when the node is busy?
        What happens when too many requests come?
        What is the queue?
        ~ Can two users ask at the same time?
        ~ What does a busy node do with a new request?""",
        "Eight requests run at once by default; more wait in a queue, and when it is full the answer is 429.",
        ["eight requests", "429"],
    ),
    (
        """Does Penstock reuse a common prefix?
        @ prompt caching|the prefix cache|cached_tokens|common prefixes
        [Does|Will|Can] [it|Penstock|a node] [reuse|remember|keep] [a prefix|the beginning of a prompt|earlier prompts|the conversation so far]?
        [Is|Are] [a prefix|a common beginning|earlier turns|the history] [cached|reused|computed again|kept]?
        [Explain|Describe] [prompt caching|the prefix cache|cached_tokens].
        What is prompt caching?
        Are prompts cached?
        What is cached_tokens?
        Does a long chat get slower?
        Is the beginning of a prompt computed again?
        ~ Does Penstock cache prompts?
        ~ Must the same prompt be computed twice?""",
        "A prompt that begins like an earlier one starts behind it: its KV pages are found by their tokens and used again.",
        ["starts behind it"],
    ),
    (
        """What is the largest context?
        @ the context length|long prompts|the largest prompt|context_length_exceeded
        [How|What] [long|length] [may a prompt be|can a prompt be|is the context|can the context be]?
        [My|The] prompt [is too long|has too many tokens|was refused][.|. Why?|. What now?]
        [How many|What number of] tokens [fit|can I send|are allowed|has the context]?
        [Is|Are] long prompts [cut|truncated|shortened|refused]?
        How long can a prompt be?
        How long may my prompt be?
        What is context_length_exceeded?
        My prompt is too long.
        What is the default context?
        ~ What is the limit for a prompt?
        ~ What happens with a prompt that is too long?""",
        "The default context is 8K or the model's if less; a longer prompt is refused with 400 and context_length_exceeded, "
        "never cut.",
        ["8k", "context_length_exceeded"],
    ),
    (
        """How large is an expert of DeepSeek-V3?
        @ the size of DeepSeek-V3|DeepSeek-V3's experts|the parameters of DeepSeek-V3
        [How|What] [many parameters|many experts|many billions|size] [has|does] [DeepSeek-V3|V3][?| have?]
        [How|What] [big|large] is [DeepSeek-V3|V3|an expert of V3|one expert]?
        [How much|What] [disk space|space|storage] does [V3|DeepSeek-V3] [take|need]?
        How big is one expert?
        How large is DeepSeek-V3?
        How many parameters has DeepSeek-V3?
        How many experts does DeepSeek-V3 have?
        How much disk does DeepSeek-V3 need?
        ~ What size is DeepSeek-V3?
        ~ How many bytes is an expert of V3?""",
        "DeepSeek-V3 has 671 billion parameters and 256 routed experts a layer, 8 of them per token; one expert is 44 MB in FP8.",
        ["671 billion", "44 mb"],
    ),
    (
        """The message says that the memory limit is too low. What do I do?
        @ ulimit -l|the memlock limit|locked memory|RLIMIT_MEMLOCK
        [run|Penstock|penstock run|It] [says|complains about|mentions|prints|fails with] [memlock|the memlock limit|that memory cannot be locked|a locked memory limit][.|. What now?|?]
        [How|In what way] do I [raise|change|lift|increase] the [memlock limit|locked memory limit|limit of locked memory]?
        [Why|What for] [does it need|is there] [locked memory|CAP_IPC_LOCK]?
        What does ulimit -l have to do with Penstock?
        Penstock says that it cannot lock memory.
        Why does run name ulimit -l?
        What is the memlock limit for?
        ~ run ends and mentions ulimit -l. Why?
        ~ What must I do about the memlock limit?""",
        "The slots are registered with io_uring, which needs locked memory. Raise `ulimit -l` or give CAP_IPC_LOCK.",
        ["ulimit -l"],
    ),
    (
        """The message says that a checksum is wrong. What now?
        @ a wrong checksum|a damaged file|a bad checksum|a corrupt store
        [verify|penstock verify|It|run] [says|reports|finds|prints] [a bad checksum|checksum error|that a file is damaged|a checksum mismatch][.|. What now?|?]
        [My|The] [store|checkpoint|file|model] is [corrupt|damaged|broken][.|. What do I do?|?]
        [Checksum|Hash] [mismatch|error|failure][.|?| - what now?]
        What do I do about a wrong checksum?
        store: checksum does not match the index
        verify reports a damaged file.
        My model file is damaged.
        ~ A checksum differs from the index. What should I do?
        ~ What if verify finds a bad checksum?""",
        "The file is damaged: run `penstock verify` to see where, and copy the file again.",
        ["penstock verify", "copy the file again"],
    ),
    (
        """The message says that a tensor is missing.
        @ a missing tensor|an incomplete checkpoint|a missing shard|a missing model file
        [run|Penstock|penstock run|It] [says|complains|reports|prints] that a [tensor|shard|file|weight] is [missing|not there|absent][.|. What now?|?]
        [A|One] [tensor|weight|file] [cannot be found|was not found|is not in the checkpoint][.|. Why?|?]
        [Why|What does it mean that] [is a tensor|a tensor is] missing?
        What do I do when a tensor is missing?
        error: tensor not found
        Why does Penstock say that a file of the model is missing?
        The checkpoint is incomplete.
        ~ Penstock cannot find a tensor. What now?
        ~ A shard of the model is missing.""",
        "The checkpoint is incomplete: download the missing file again. Penstock exits with 3 and names file and tensor.",
        ["incomplete", "exits with 3"],
    ),
    (
        """ask says that it cannot connect to the socket.
        @ a missing socket|connection refused|connecting to a node
        [ask|chat|penstock ask|penstock chat|the client|curl] [says|prints|fails with|reports] [connection refused|no such file|that there is no socket|that it cannot connect][.|. Why?|. What now?|?]
        [Why|How come] [is|was] the connection refused?
        [I cannot|Why can I not|My program cannot] [connect|reach the node|open the socket][.|?| to the socket.]
        penstock ask: cannot connect
        Why can't ask reach the node?
        chat says no such file or directory for the socket.
        It says connection refused.
        ~ penstock chat cannot find the socket. Why?
        ~ What do I do when ask cannot reach a node?""",
        "No node is running on that socket: start one with `penstock run MODEL`, or name its socket with --socket.",
        ["no node is running", "--socket"],
    ),
]
