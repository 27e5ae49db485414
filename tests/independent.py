"""Losses and layers as their papers print them, sample by sample, with nothing of minigen in them.

Loops for clarity; nothing is cast, so that float64 gives float64; no small number is added where a paper prints none.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def cosine(a, b):
    """R(a, b) = a^T b / (||a|| ||b||), for two vectors (AttnGAN, text between eq. 9 and eq. 10)."""
    return (a @ b) / (a.norm() * b.norm())


def word_region_similarity(e, v):
    """AttnGAN eq. 7: s = e^T v. e (D, T) real words only, v (D, N) -> s (T, N)."""
    return e.T @ v


def normalise_over_words(s):
    """AttnGAN eq. 8: sbar_ij = exp(s_ij) / sum_k exp(s_kj), k over the caption's words. (T, N)."""
    return torch.softmax(s, dim=0)


def region_attention(sbar, gamma1):
    """AttnGAN eq. 9, right: alpha_ij = exp(gamma1 sbar_ij) / sum_k exp(gamma1 sbar_ik), k over regions."""
    return torch.softmax(gamma1 * sbar, dim=1)


def region_contexts(alpha, v):
    """AttnGAN eq. 9, left: c_i = sum_j alpha_ij v_j. alpha (T, N), v (D, N) -> list of T vectors (D,)."""
    contexts = []
    for i in range(alpha.shape[0]):
        c = torch.zeros_like(v[:, 0])
        for j in range(v.shape[1]):
            c = c + alpha[i, j] * v[:, j]
        contexts.append(c)
    return contexts


def word_level_score(e, v, gamma1, gamma2):
    """AttnGAN eq. 10: R(Q, D) = log( sum_i exp(gamma2 R(c_i, e_i)) )^(1/gamma2) for one image and one caption.

    The power is read as inside the logarithm, i.e. (1/gamma2) log(sum ...), because the paper says
    the score tends to max_i R(c_i, e_i) as gamma2 grows. The paper prints the sum from i = 1 to
    T - 1 while eq. 8 counts words from 0 to T - 1; all T words are summed here.
    e (D, T) with padding already removed, v (D, N) -> scalar.
    """
    alpha = region_attention(normalise_over_words(word_region_similarity(e, v)), gamma1)
    contexts = region_contexts(alpha, v)
    relevance = torch.stack([cosine(contexts[i], e[:, i]) for i in range(e.shape[1])])
    return torch.logsumexp(gamma2 * relevance, dim=0) / gamma2


def damsm_word_scores(words, mask, regions, gamma1, gamma2):
    """AttnGAN eq. 7-10 for every pair: scores[i, j] = R(image j, caption i), (B captions, B images).

    words (B, D, T), mask (B, T) True at real words, regions (B, D, N).
    """
    mask = mask.bool()
    if not mask.any(dim=1).all():
        raise ValueError("a caption has no real word")
    rows = []
    for i in range(words.shape[0]):
        e = words[i][:, mask[i]]
        rows.append(torch.stack([word_level_score(e, regions[j], gamma1, gamma2) for j in range(regions.shape[0])]))
    return torch.stack(rows)


def damsm_sentence_scores(sentence, whole):
    """AttnGAN, the redefinition of eq. 10 for sentences: R(Q, D) = vbar^T ebar / (||vbar|| ||ebar||).

    sentence (B, D), whole (B, D) -> scores[i, j] = R(image j, caption i), (B captions, B images).
    """
    rows = []
    for i in range(sentence.shape[0]):
        rows.append(torch.stack([cosine(whole[j], sentence[i]) for j in range(whole.shape[0])]))
    return torch.stack(rows)


def caption_given_image_loss(scores, gamma3):
    """AttnGAN eq. 11-12 (L1): -log P(D_i | Q_i), posterior over the captions for each image, batch MEAN.

    P(D_i|Q_i) = exp(gamma3 R(Q_i, D_i)) / sum_j exp(gamma3 R(Q_i, D_j)). Q is the image and D the
    description. The paper sums over i; this is the sum divided by B.
    """
    n = scores.shape[0]
    terms = []
    for i in range(n):  # image i: column i, all the captions
        terms.append(torch.logsumexp(gamma3 * scores[:, i], dim=0) - gamma3 * scores[i, i])
    return torch.stack(terms).sum() / n


def image_given_caption_loss(scores, gamma3):
    """AttnGAN eq. 13 (L2): -log P(Q_i | D_i), posterior over the images for each caption, batch MEAN.

    P(Q_i|D_i) = exp(gamma3 R(Q_i, D_i)) / sum_j exp(gamma3 R(Q_j, D_i)). The paper sums over i.
    """
    n = scores.shape[0]
    terms = []
    for i in range(n):  # caption i: row i, all the images
        terms.append(torch.logsumexp(gamma3 * scores[i, :], dim=0) - gamma3 * scores[i, i])
    return torch.stack(terms).sum() / n


def damsm_loss(words, mask, regions, sentence, whole, gamma1, gamma2, gamma3):
    """AttnGAN eq. 7-14: L_DAMSM = L1w + L2w + L1s + L2s, each a MEAN over the batch (the paper SUMS).

    Returns a dict: l1w, l2w, l1s, l2s, total, and word_scores, sentence_scores (B captions, B images).
    Captions of the same class are not excluded from the denominators.
    """
    word_scores = damsm_word_scores(words, mask, regions, gamma1, gamma2)
    sentence_scores = damsm_sentence_scores(sentence, whole)
    l1w = caption_given_image_loss(word_scores, gamma3)
    l2w = image_given_caption_loss(word_scores, gamma3)
    l1s = caption_given_image_loss(sentence_scores, gamma3)
    l2s = image_given_caption_loss(sentence_scores, gamma3)
    return {
        "l1w": l1w,
        "l2w": l2w,
        "l1s": l1s,
        "l2s": l2s,
        "total": l1w + l2w + l1s + l2s,
        "word_scores": word_scores,
        "sentence_scores": sentence_scores,
    }


def per_sample_gradients(out, x):
    """The gradient of out[i] with respect to x[i], for each i, kept differentiable. Same shape as x.

    If D mixes the rows of its batch, this is the diagonal part only: d out[i] / d x[i].
    """
    rows = []
    for i in range(out.shape[0]):
        (g,) = torch.autograd.grad(out[i], x, create_graph=True)
        rows.append(g[i])
    return torch.stack(rows)


def mean_squared_gradient_norm(out, x):
    """E[ ||grad_x D(x)||^2 ]: the squared 2-norm over all the elements of a sample, batch mean (no 1/2)."""
    g = per_sample_gradients(out, x)
    return torch.stack([(g[i] ** 2).sum() for i in range(g.shape[0])]).mean()


def rp_discriminator_loss(D, real, fake, gamma):
    """RpGAN (Jolicoeur-Martineau 2018) with R1 and R2 (Huang et al. 2024), what D minimises:

    E[softplus(-(D(x) - D(G(z))))] + gamma/2 E||grad D(x)||^2 + gamma/2 E||grad D(G(z))||^2,
    row i of real paired with row i of fake only. The samples are detached: no gradient reaches G.
    """
    real = real.detach().clone().requires_grad_(True)
    fake = fake.detach().clone().requires_grad_(True)
    d_real, d_fake = D(real), D(fake)
    pairing = torch.stack([F.softplus(-(d_real[i] - d_fake[i])) for i in range(real.shape[0])]).mean()
    r1 = mean_squared_gradient_norm(d_real, real)
    r2 = mean_squared_gradient_norm(d_fake, fake)
    return pairing + gamma / 2 * r1 + gamma / 2 * r2


def rp_generator_loss(D, real, fake):
    """RpGAN, what G minimises: E[softplus(-(D(G(z)) - D(x)))], paired row by row, no penalty."""
    d_real, d_fake = D(real), D(fake)
    return torch.stack([F.softplus(-(d_fake[i] - d_real[i])) for i in range(real.shape[0])]).mean()


def wgan_gp_critic_loss(D, real, fake, eps, lam):
    """Gulrajani et al. 2017, Algorithm 1, lines 4-8, mean over the batch of

    D(x_tilde) - D(x) + lam (||grad_{x_hat} D(x_hat)||_2 - 1)^2, x_hat = eps x + (1 - eps) x_tilde,
    eps (B,), one number a sample. The samples are detached: no gradient reaches G.
    """
    real, fake = real.detach(), fake.detach()
    x_hat = torch.stack([eps[i] * real[i] + (1 - eps[i]) * fake[i] for i in range(real.shape[0])])
    x_hat = x_hat.detach().requires_grad_(True)
    g = per_sample_gradients(D(x_hat), x_hat)
    d_real, d_fake = D(real), D(fake)
    losses = []
    for i in range(real.shape[0]):
        norm = torch.linalg.vector_norm(g[i])
        losses.append(d_fake[i] - d_real[i] + lam * (norm - 1) ** 2)
    return torch.stack(losses).mean()


def conditioning_kl(mu, logvar):
    """StackGAN (Zhang et al. 2017) eq. 2: D_KL(N(mu, diag sigma^2) || N(0, I)), closed form, logvar = log sigma^2.

    1/2 sum_d (mu_d^2 + sigma_d^2 - 1 - log sigma_d^2), SUM over the dimensions, MEAN over the batch.
    """
    per_caption = []
    for i in range(mu.shape[0]):
        per_caption.append(0.5 * (mu[i] ** 2 + torch.exp(logvar[i]) - 1 - logvar[i]).sum())
    return torch.stack(per_caption).mean()


def conditioning_sample(mu, logvar, eps):
    """StackGAN section 3.2-3.3: c_hat = mu + sigma * eps (elementwise), eps ~ N(0, I), sigma = exp(logvar / 2)."""
    return mu + torch.exp(logvar / 2) * eps


def matching_aware_discriminator_loss(s_r, s_w, s_f):
    """Reed et al. 2016, Algorithm 1, negated to be minimised, from logits (B,), batch mean:

    -[ log sig(s_r) + ( log(1 - sig(s_w)) + log(1 - sig(s_f)) ) / 2 ], with log(1 - sig(s)) = log sig(-s).
    """
    return -(F.logsigmoid(s_r) + (F.logsigmoid(-s_w) + F.logsigmoid(-s_f)) / 2).mean()


def matching_aware_generator_loss(s_f):
    """Reed et al. 2016, Algorithm 1, L_G = log(s_f), negated to be minimised: -log sig(s_f), batch mean."""
    return -F.logsigmoid(s_f).mean()


def minibatch_discrimination(f, T, include_self=True):
    """Salimans et al. 2016 section 3.2: M_i = f(x_i) T, c_b(x_i, x_j) = exp(-||M_ib - M_jb||_1),

    o(x_i)_b = sum_{j=1..n} c_b(x_i, x_j). As PRINTED the sum includes j = i (which adds exactly 1):
    include_self=True. f (B, A), T (A, Bk, C) -> o (B, Bk).
    """
    n, kernels = f.shape[0], T.shape[1]
    M = [[f[i] @ T[:, b, :] for b in range(kernels)] for i in range(n)]
    rows = []
    for i in range(n):
        row = []
        for b in range(kernels):
            total = f.new_zeros(())
            for j in range(n):
                if j == i:
                    # exp(-0) = 1: written as a constant, so |0| is never differentiated
                    total = total + (1.0 if include_self else 0.0)
                else:
                    total = total + torch.exp(-(M[i][b] - M[j][b]).abs().sum())
            row.append(total)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def spectral_norm_step(W, u):
    """Miyato et al. 2018 Algorithm 1, one power-iteration step on a matrix W (out, in) from u (out,):

    v <- W^T u / ||W^T u||, u <- W v / ||W v||, sigma = u^T W v with the NEW u and v.
    u and v are constants for the gradient, so d sigma / dW = u v^T. Returns sigma, u, v.
    """
    W_constant = W.detach()
    v = W_constant.T @ u.detach()
    v = v / v.norm()
    u = W_constant @ v
    u = u / u.norm()
    sigma = u @ (W @ v)
    return sigma, u, v


def spectral_normalise(W, u):
    """Miyato et al. 2018 eq. 8: W / sigma(W), sigma from one step of spectral_norm_step. Returns W_sn, u, v."""
    sigma, u, v = spectral_norm_step(W, u)
    return W / sigma, u, v


def inception_score(probabilities):
    """Salimans et al. 2016 section 4: exp( E_x KL( p(y|x) || p(y) ) ), p(y) = the mean row. Rows are images.

    Natural logarithms, 0 log 0 = 0, one split (all the rows together).
    """
    marginal = probabilities.mean(dim=0)
    divergences = []
    for row in probabilities:
        kl = probabilities.new_zeros(())
        for k in range(row.shape[0]):
            if row[k] > 0:
                kl = kl + row[k] * (torch.log(row[k]) - torch.log(marginal[k]))
        divergences.append(kl)
    return torch.exp(torch.stack(divergences).mean())
