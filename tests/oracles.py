"""Equations 7, 8, 10, 11, 12 and 14 as plain NumPy loops in float64.

Written from the paper, one image at a time; slow on purpose, so that they can be read
against it.
"""

import math

import numpy as np


def pixel_weights(variance, epsilon):
    """Eq. 7, [h, w]: 1 / (variance + epsilon), divided by its sum over pixels."""
    height, width = variance.shape
    weights = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            weights[y, x] = 1 / (variance[y, x] + epsilon)
    return weights / weights.sum()


def pixel_loss(fused, mean, variance, epsilon):
    """Eq. 7, a number; the L1 norm divided by the number of channels."""
    weights = pixel_weights(variance, epsilon)
    height, width, channels = fused.shape
    loss = 0.0
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                difference = abs(float(fused[y, x, c]) - float(mean[y, x, c]))
                loss += weights[y, x] * difference / channels
    return loss


def routing_weights(variance, mean_variance, temperature, epsilon):
    """Eq. 8, [k, h, w]; exponents shifted by their maximum, which cancels."""
    backbones, height, width = variance.shape
    weights = np.zeros((backbones, height, width))
    for y in range(height):
        for x in range(width):
            exponents = [
                float(variance[k, y, x])
                / (float(mean_variance[k]) + epsilon)
                / temperature
                for k in range(backbones)
            ]
            powers = [math.exp(value - max(exponents)) for value in exponents]
            for k in range(backbones):
                weights[k, y, x] = powers[k] / sum(powers)
    return weights


def alignment_loss(features, target, weights):
    """Eq. 10, a number; the squared norm divided by each backbone's channels."""
    backbones, height, width = weights.shape
    loss = 0.0
    for k in range(backbones):
        channels = features[k].shape[-1]
        for y in range(height):
            for x in range(width):
                squared = 0.0
                for c in range(channels):
                    squared += (
                        float(features[k][y, x, c]) - float(target[k][y, x, c])
                    ) ** 2
                loss += float(weights[k, y, x]) * squared / channels
    return loss / (height * width)


def structure_loss(fused, mean, window=11, sigma=1.5, k1=0.01, k2=0.03):
    """Eq. 11, a number: Wang et al.'s SSIM with a Gaussian window, range 1."""
    height, width, channels = fused.shape
    kernel = np.zeros((window, window))
    for y in range(window):
        for x in range(window):
            dy, dx = y - window // 2, x - window // 2
            kernel[y, x] = math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
    kernel /= kernel.sum()
    c1, c2 = k1**2, k2**2
    values = []
    for c in range(channels):
        for y in range(height - window + 1):
            for x in range(width - window + 1):
                ours = fused[y : y + window, x : x + window, c].astype(np.float64)
                theirs = mean[y : y + window, x : x + window, c].astype(np.float64)
                mu, nu = (kernel * ours).sum(), (kernel * theirs).sum()
                ours_variance = (kernel * (ours - mu) ** 2).sum()
                theirs_variance = (kernel * (theirs - nu) ** 2).sum()
                covariance = (kernel * (ours - mu) * (theirs - nu)).sum()
                values.append(
                    (2 * mu * nu + c1)
                    * (2 * covariance + c2)
                    / (mu**2 + nu**2 + c1)
                    / (ours_variance + theirs_variance + c2)
                )
    return 1 - sum(values) / len(values)


def warp(image, shift_x, shift_y, angle):
    """Eq. 14, [h, w]: each output pixel looks up where its content came from."""
    height, width = image.shape
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2

    def pixel(y, x):
        return float(image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])

    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            dx, dy = x - centre_x - shift_x, y - centre_y - shift_y
            from_x = math.cos(angle) * dx + math.sin(angle) * dy + centre_x
            from_y = math.cos(angle) * dy - math.sin(angle) * dx + centre_y
            left, top = math.floor(from_x), math.floor(from_y)
            right_share, lower_share = from_x - left, from_y - top
            out[y, x] = (1 - lower_share) * (
                (1 - right_share) * pixel(top, left)
                + right_share * pixel(top, left + 1)
            ) + lower_share * (
                (1 - right_share) * pixel(top + 1, left)
                + right_share * pixel(top + 1, left + 1)
            )
    return out
